"""Certificates that contracts are encrypted for: what they say, and whether they are IBM's."""
