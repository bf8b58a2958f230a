"""Gateway to Hyperliquid: the adapter between the venue port and `hypercore`.

`venue` is the adapter; `normalizer`, `market_normalizer` and `answers` translate and are pure; `links` wires and
`private_stream` and `market_stream` listen. One dex per gateway: "" is Hyperliquid's own perps.
"""
