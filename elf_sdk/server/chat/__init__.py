"""Chat: frames (pure), sessions, and the WebSocket endpoint."""
