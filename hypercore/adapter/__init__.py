"""HyperCore behind the mesh's venue port: one adapter for Hyperliquid's own perps and for every builder dex.

It is what `gateway_hyperliquid` and `gateway_tradexyz` have in common, and the only part of `hypercore` that knows the
contract.
"""
