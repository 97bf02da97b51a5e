"""Lay out every patch of a collection in one plane and write one fused, flattened surface.

No front is followed and nothing is decided locally: where patches touch is measured, the wrap of
every patch follows from all touches together, and the plane is resampled at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracer.unroll.axis import Axis, parse_axis, read_axis
    from tracer.unroll.output import write_unrolled
    from tracer.unroll.params import UnrollParams
    from tracer.unroll.patches import Patches, load_patches, patch_directories
    from tracer.unroll.slabs import unroll_collection
    from tracer.unroll.stage import UnrollResult, solve, unroll
    from tracer.unroll.suspects import Suspect, find_suspects

_HOMES = {
    "Axis": "axis",
    "Patches": "patches",
    "Suspect": "suspects",
    "UnrollParams": "params",
    "UnrollResult": "stage",
    "find_suspects": "suspects",
    "load_patches": "patches",
    "parse_axis": "axis",
    "patch_directories": "patches",
    "read_axis": "axis",
    "solve": "stage",
    "unroll": "stage",
    "unroll_collection": "slabs",
    "write_unrolled": "output",
}

__all__ = [
    "Axis",
    "Patches",
    "Suspect",
    "UnrollParams",
    "UnrollResult",
    "find_suspects",
    "load_patches",
    "parse_axis",
    "patch_directories",
    "read_axis",
    "solve",
    "unroll",
    "unroll_collection",
    "write_unrolled",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use, so that importing the package is cheap."""
    if name in _HOMES:
        return getattr(import_module(f"tracer.unroll.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'tracer.unroll' has no attribute '{name}'")
