"""Model settings, and the offline OpenAI-compatible server."""
