"""A2A 1.0 as a view of the run log; the only home of the `a2a` package."""
