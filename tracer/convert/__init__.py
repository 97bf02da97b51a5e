"""Surfaces in other shapes: meshes, label volumes, other grids."""
