"""Shared library of the mesh: knows the contract and no venue."""
