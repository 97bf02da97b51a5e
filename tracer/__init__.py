"""Virtual unwrapping of carbonised papyrus rolls: from a CT scan to flat, readable layers.

Everything in ``__all__`` is loaded on first use, so that ``import tracer`` and ``tracer --help``
stay fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tracer.collection import PatchCollection
    from tracer.distance_field import DistanceField
    from tracer.patch_growth import grow_patch
    from tracer.phantom.truth import Truth
    from tracer.render import render_layers, render_surface
    from tracer.seed_params import SeedParams
    from tracer.spatial_index import SpatialIndex
    from tracer.surface import Surface
    from tracer.volume import Volume

_HOMES = {
    "DistanceField": "tracer.distance_field",
    "PatchCollection": "tracer.collection",
    "SeedParams": "tracer.seed_params",
    "SpatialIndex": "tracer.spatial_index",
    "Surface": "tracer.surface",
    "Truth": "tracer.phantom.truth",
    "Volume": "tracer.volume",
    "grow_patch": "tracer.patch_growth",
    "render_layers": "tracer.render",
    "render_surface": "tracer.render",
}

__all__ = [
    "DistanceField",
    "PatchCollection",
    "SeedParams",
    "SpatialIndex",
    "Surface",
    "Truth",
    "Volume",
    "__version__",
    "grow_patch",
    "render_layers",
    "render_surface",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tracer' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
