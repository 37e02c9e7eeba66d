"""Stand-ins for outside services, made to misbehave on request."""
