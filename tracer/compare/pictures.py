"""A picture of where two sides differ: slices through both, and the grids of single surfaces."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracer.compare.figures import FARTHEST, Comparison

if TYPE_CHECKING:
    from PIL import Image

    from tracer.surface import Surface

_PANEL = 420  # pixels of a side of a slice
_GAP = 8
_LABEL = 20
_GRID_HEIGHT = 160  # pixels, most
_PAGE, _BEHIND, _OTHER, _INK = (255, 255, 255), (24, 24, 24), (105, 105, 115), (40, 40, 40)
_MARGIN = 20.0  # voxels around the surfaces


def difference_picture(comparison: Comparison) -> bytes:
    """Return how both sides lie, coloured by the distance from the other: green near, red far.

    The upper slices show A over B in grey, the lower ones B over A. They go through a place where
    the sides differ, if there is one. Below are the grids of single surfaces.

    Parameters
    ----------
    comparison : Comparison
        Two surfaces or collections.

    Returns
    -------
    bytes
        PNG.
    """
    from PIL import Image, ImageDraw

    places = _places(comparison)
    low, high = _box(comparison)
    rows: list[list[tuple[str, Image.Image]]] = []
    for own, names in ((0, "AB"), (1, "BA")):
        row = []
        for axis in range(3):
            at = float(places[own][axis]) + 0.013  # on no vertex
            title = f"{names[0]} (by distance from {names[1]}), {'xyz'[axis]} = {at:.0f}"
            row.append((title, _slice(comparison, own, axis, at, (low, high))))
        rows.append(row)
    if all(len(side) == 1 for side in comparison.surfaces):
        titles = ("grid of A", "grid of B")
        rows += [
            [(title, _grid(side[0]))]
            for title, side in zip(titles, comparison.distances, strict=True)
        ]
    width = 3 * (_PANEL + _GAP) + _GAP
    heights = [max(image.height for _, image in row) + _LABEL + _GAP for row in rows]
    page = Image.new("RGB", (width, sum(heights) + _LABEL + _GAP), _PAGE)
    pen = ImageDraw.Draw(page)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for k, (title, image) in enumerate(row):
            left = _GAP + k * (_PANEL + _GAP)
            pen.text((left, top + 5), title, fill=_INK)
            page.paste(image, (left, top + _LABEL))
        top += height
    _draw_key(page, top)
    out = io.BytesIO()
    page.save(out, "PNG", optimize=True)
    return out.getvalue()


def _places(comparison: Comparison) -> list[NDArray[np.float64]]:
    """Return the point that the slices of each side go through."""
    found = []
    for surfaces, distances in zip(comparison.surfaces, comparison.distances, strict=True):
        points = np.concatenate([one.points_xyz[one.valid] for one in surfaces])
        apart = np.concatenate(
            [grid[one.valid] for one, grid in zip(surfaces, distances, strict=True)]
        )
        far = points[apart > comparison.tolerance]
        chosen = far if len(far) else points
        middle = np.median(chosen, axis=0)
        nearest = np.linalg.norm(chosen - middle, axis=1).argmin()
        found.append(chosen[nearest].astype(np.float64))
    return found


def _box(comparison: Comparison) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the box around everything."""
    boxes = [one.bbox_xyz for side in comparison.surfaces for one in side if one.valid.any()]
    low, high = np.min([b[0] for b in boxes], axis=0), np.max([b[1] for b in boxes], axis=0)
    return low - _MARGIN, high + _MARGIN


def _slice(
    comparison: Comparison,
    own: int,
    axis: int,
    at: float,
    box: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> "Image.Image":
    """Return a slice with the other side in grey and this one in colours over it."""
    from PIL import Image, ImageDraw

    from tracer.unroll.pictures import heat

    low, high = box
    shown = [k for k in range(3) if k != axis]
    zoom = _PANEL / float((high - low)[shown].max())
    size = [max(1, round(float(n) * zoom)) for n in (high - low)[shown]]
    picture = Image.new("RGB", (size[0], size[1]), _BEHIND)
    pen = ImageDraw.Draw(picture)
    for side in (1 - own, own):
        lines = _lines(comparison.surfaces[side], comparison.distances[side], axis, at)
        ends = ((lines[..., :3] - low)[..., shown] * zoom).tolist()
        apart = lines[..., 3].mean(axis=1) / FARTHEST
        colours = heat(1.0 - apart).tolist() if side == own else [_OTHER] * len(ends)
        order = np.argsort(apart, kind="stable") if side == own else range(len(ends))
        for k in order:  # the farthest last, so that none hides behind what agrees
            pen.line([tuple(end) for end in ends[k]], fill=tuple(colours[k]), width=2)
    return picture


def _lines(
    surfaces: Sequence["Surface"],
    distances: Sequence[NDArray[np.float32]],
    axis: int,
    at: float,
) -> NDArray[np.float64]:
    """Return where surfaces cross a plane: ends x y z and the distance there."""
    from tracer.check.pictures import crossings

    found = [np.empty((0, 2, 4))]
    for surface, grid in zip(surfaces, distances, strict=True):
        if surface.valid.any():
            (low, high) = surface.bbox_xyz[:, axis]
            if low <= at <= high:
                found.append(crossings(surface, axis, at, grid))
    return np.concatenate(found)


def _grid(distance: NDArray[np.float32]) -> "Image.Image":
    """Return the grid of a surface, every vertex coloured by its distance."""
    from PIL import Image

    from tracer.unroll.pictures import heat

    pixels = heat(1.0 - distance.astype(np.float64) / FARTHEST)
    rows, cols = pixels.shape[:2]
    zoom = min((3 * _PANEL + 2 * _GAP) / cols, _GRID_HEIGHT / rows)
    size = (max(1, round(cols * zoom)), max(1, round(rows * zoom)))
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)


def _draw_key(page: "Image.Image", top: int) -> None:
    """Draw what the colours mean."""
    from PIL import Image, ImageDraw

    from tracer.unroll.pictures import heat

    bar = heat(np.repeat(1.0 - np.linspace(0.0, 1.0, 256)[None], 12, axis=0))
    page.paste(Image.fromarray(bar), (_GAP + 60, top + 4))
    pen = ImageDraw.Draw(page)
    pen.text((_GAP, top + 4), "0 voxels", fill=_INK)
    text = f"{FARTHEST:g} and more; grey: the other side"
    pen.text((_GAP + 60 + 256 + 8, top + 4), text, fill=_INK)
