"""What deploying a contract needs: ports, volumes, hosts, files, and what the attestation record will say."""
