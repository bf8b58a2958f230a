"""Hyperliquid front: `/info`, `/exchange` and `/ws` over the engine. Pure but for `app.py`."""
