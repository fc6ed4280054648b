"""What the benchmarks of A2A share: the servers, the process that each of them is, and the load."""
