"""The contract: what the runtime reads. Pure: bytes and values in, text out."""
