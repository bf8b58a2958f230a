"""How the mesh is put on machines."""
