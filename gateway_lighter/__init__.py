"""The Lighter gateway: the venue's protocol, and the adapter that puts it behind the frame's port.

Only `rest`, `stream` and `native_signer` touch the world outside; every other protocol module is pure.
"""
