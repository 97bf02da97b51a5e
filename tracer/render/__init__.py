"""Flattened layers of a surface, for eyes and for ink models.

Conventions
-----------
Pixel (i, j) of the canvas lies at the centre of its square: grid position ((i + 0.5) / pixels per
cell, (j + 0.5) / pixels per cell). Its point is bilinear in the vertices, its normal (d/dcol x
d/drow) bilinear in the unit vertex normals and normalised. Layer i of n is sampled trilinearly
at offset i - (n - 1) / 2 level-0 voxels along the normal, so layer 0 is the most negative one.
Pixels without a surface are 0.

Laws: the pixels do not depend on tile size, memory or threads; a killed render that is started
again gives the same files.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracer.render.params import RenderParams
    from tracer.render.stage import (
        ChunkCount,
        RenderResult,
        count_chunks,
        render_layers,
        render_surface,
    )

_HOMES = {
    "ChunkCount": "tracer.render.stage",
    "RenderParams": "tracer.render.params",
    "RenderResult": "tracer.render.stage",
    "count_chunks": "tracer.render.stage",
    "render_layers": "tracer.render.stage",
    "render_surface": "tracer.render.stage",
}

__all__ = [
    "ChunkCount",
    "RenderParams",
    "RenderResult",
    "count_chunks",
    "render_layers",
    "render_surface",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use, so that importing the package is cheap."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tracer.render' has no attribute '{name}'")
