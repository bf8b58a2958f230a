"""The Lighter front: its REST and WebSocket over the shared engine."""
