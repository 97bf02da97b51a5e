"""Synthetic scrolls with exact ground truth: make one, and ask where a point lies on its sheet."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracer.phantom.truth import Located, Truth

_HOMES = {
    "Located": "tracer.phantom.truth",
    "Truth": "tracer.phantom.truth",
}

__all__ = ["Located", "Truth"]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use, so that importing the package is cheap."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tracer.phantom' has no attribute '{name}'")
