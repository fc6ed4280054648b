"""Pipelines for the repository of an organisation's teams: written once, then its people's own."""
