"""A team as a service: TeamServer, and every protocol as a view of the run log."""
