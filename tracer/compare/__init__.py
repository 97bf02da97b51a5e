"""Two surfaces, or two collections: how far apart, what only one covers, where windings differ."""

from tracer.compare.figures import Comparison, Side
from tracer.compare.pictures import difference_picture
from tracer.compare.stage import compare

__all__ = ["Comparison", "Side", "compare", "difference_picture"]
