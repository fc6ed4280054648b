"""Container images of teams: what goes in, who builds them, and how they reach a registry or a cluster."""
