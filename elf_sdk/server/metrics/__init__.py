"""What is counted of a process and its teams, for Prometheus."""
