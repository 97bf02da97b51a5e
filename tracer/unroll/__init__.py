"""Lay out every patch of a collection in one plane and write one fused, flattened surface."""
