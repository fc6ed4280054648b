"""A run and its durable log: the only way anything is executed."""
