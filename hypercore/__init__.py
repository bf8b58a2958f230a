"""HyperCore protocol: what every gateway to Hyperliquid and its builder dexes shares.

Knows the venue's wire and nothing of gRPC or the mesh's contract. Only `rest` and `stream` move bytes; every
other module is pure.
"""
