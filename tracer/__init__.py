"""Virtual unwrapping of carbonised papyrus rolls: from a CT scan to flat, readable layers.

Everything in ``__all__`` is loaded on first use, so that ``import tracer`` and ``tracer --help``
stay fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tracer.surface import Surface
    from tracer.volume import Volume

_HOMES = {
    "Surface": "tracer.surface",
    "Volume": "tracer.volume",
}

__all__ = ["Surface", "Volume", "__version__"]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tracer' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
