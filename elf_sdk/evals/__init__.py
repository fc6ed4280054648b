"""Evals: recorded conversations with a team, and what must stay true of its answers."""
