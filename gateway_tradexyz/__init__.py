"""The trade.xyz gateway: HyperCore's builder dex `xyz` behind the mesh's contract."""
