"""Synthetic scrolls with exact ground truth: make one, and ask where a point lies on its sheet."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracer.phantom.generate import PhantomResult, make_phantom
    from tracer.phantom.legibility import Legibility, measure_legibility
    from tracer.phantom.params import PhantomParams
    from tracer.phantom.sheet import Located
    from tracer.phantom.truth import Truth

_HOMES = {
    "Legibility": "tracer.phantom.legibility",
    "PhantomParams": "tracer.phantom.params",
    "PhantomResult": "tracer.phantom.generate",
    "make_phantom": "tracer.phantom.generate",
    "measure_legibility": "tracer.phantom.legibility",
    "Located": "tracer.phantom.sheet",
    "Truth": "tracer.phantom.truth",
}

__all__ = [
    "Legibility",
    "Located",
    "PhantomParams",
    "PhantomResult",
    "Truth",
    "make_phantom",
    "measure_legibility",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use, so that importing the package is cheap."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tracer.phantom' has no attribute '{name}'")
