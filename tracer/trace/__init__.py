"""One consensus surface over many patches, grown from a seed patch along the scroll."""

from tracer.trace.params import TraceParams
from tracer.trace.stage import TraceResult, prepare_patches, trace

__all__ = ["TraceParams", "TraceResult", "prepare_patches", "trace"]
