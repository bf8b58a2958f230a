"""Manifests of the mesh for Kubernetes, and what a trial cluster needs besides them."""
