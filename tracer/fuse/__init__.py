"""From traces with windings to one flat, hole-free surface, at their full resolution again."""

from tracer.fuse.ground import ground
from tracer.fuse.params import FuseParams
from tracer.fuse.sources import Source, load_sources
from tracer.fuse.stage import Fused, fuse

__all__ = ["FuseParams", "Fused", "Source", "fuse", "ground", "load_sources"]
