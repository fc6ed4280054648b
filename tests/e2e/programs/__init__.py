"""Programs that run in a pod of the cluster, with what a team's image has in it; each prints JSON."""
