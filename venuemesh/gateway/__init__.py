"""The frame of every gateway: what is the same whatever the venue."""
