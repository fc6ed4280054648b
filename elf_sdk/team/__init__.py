"""Values: what a team and an organisation are. No I/O but reading a file."""
