"""Tokens, signatures and keys: how sections are encrypted, signed and disclosed."""
