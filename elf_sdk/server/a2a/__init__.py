"""A2A: card, codec, request handler and client. The only home of the a2a package."""
