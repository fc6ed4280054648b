"""Kubernetes clusters, reached as a person's kubectl reaches them: the same files, the same sign-in, no kubectl."""
