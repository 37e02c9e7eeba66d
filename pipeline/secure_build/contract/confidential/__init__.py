"""What `ccco` needs beside the contract itself: pinned pods, the agent's policy, and init data."""
