"""The links of an audit: what the machine shows, and what is in the contract that it was given."""
