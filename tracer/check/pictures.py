"""Pictures of a surface as PNG bytes: three slices, winding, confidence, distortion, holes."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.pictures import heat, rainbow

Cells = Sequence[tuple[int, int]]

if TYPE_CHECKING:
    from PIL import Image

    from tracer.surface import Surface
    from tracer.volume import Volume

_SLICE_PIXELS = 420
_GRID_PIXELS = 640
_LINE = (90, 235, 90)
_SUSPECT = (255, 210, 40)
_RING = 5  # pixels, radius of a mark
_SLAB = 20  # voxels from the slice within which places are marked
_BEHIND = 24  # grey of a slice without a volume
_WORST_STRETCH = 0.3  # shown as the darkest colour
_MARGIN = 20  # voxels around the surface


def crossings(
    surface: "Surface", axis: int, value: float, carried: NDArray[np.float32] | None = None
) -> NDArray[np.float64]:
    """Return the lines along which a surface crosses a plane.

    Parameters
    ----------
    surface : Surface
        A surface.
    axis : int
        0, 1, 2 for planes of constant x, y, z.
    value : float
        Where, voxels.
    carried : ndarray of float32, shape (rows, cols), optional
        A value of the vertices that is wanted at the ends as well.

    Returns
    -------
    ndarray of float64, shape (n, 2, 3) or (n, 2, 4)
        Ends of the lines, x y z, and what is carried along.
    """
    points, quads = surface.points_xyz.astype(np.float64), surface.valid_quads
    if carried is not None:
        points = np.concatenate([points, carried[..., None]], axis=-1)
    a, b = points[:-1, :-1][quads], points[:-1, 1:][quads]
    c, d = points[1:, 1:][quads], points[1:, :-1][quads]
    triangles = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    height = triangles[..., axis] - value
    met = []
    for i, j in ((0, 1), (1, 2), (2, 0)):
        crosses = (height[:, i] < 0) != (height[:, j] < 0)
        share = height[:, i] / np.where(crosses, height[:, i] - height[:, j], 1.0)
        point = triangles[:, i] + (triangles[:, j] - triangles[:, i]) * share[:, None]
        met.append(np.where(crosses[:, None], point, np.nan))
    ends = np.stack(met, axis=1)
    ends = ends[np.isfinite(ends[..., 0]).sum(axis=1) == 2]
    return np.asarray(ends[np.isfinite(ends[..., 0])].reshape(-1, 2, points.shape[-1]))


def slice_picture(
    surface: "Surface",
    axis: int,
    volume: "Volume | None" = None,
    suspects: Cells = (),
) -> bytes:
    """Return a slice across an axis with the surface drawn in, and places to look at as circles.

    Parameters
    ----------
    surface : Surface
        A surface.
    axis : int
        0, 1, 2 for the slice across x, y, z.
    volume : Volume, optional
        Shown behind.
    suspects : sequence of (row, col)
        Places to look at: the slice goes through the first, or else through the middle.

    Returns
    -------
    bytes
        PNG.
    """
    from PIL import Image, ImageDraw

    low, high = surface.bbox_xyz
    marked = _places(surface, suspects)
    here = marked[0] if len(marked) else np.median(surface.points_xyz[surface.valid], axis=0)
    at = round(float(here[axis]))
    shown = [k for k in range(3) if k != axis]
    low, high = np.floor(low - _MARGIN), np.ceil(high + _MARGIN)
    if volume is not None:
        low = np.maximum(low, 0)
    zoom = _SLICE_PIXELS / max(float((high - low)[shown].max()), 1.0)
    size = tuple(max(1, round(float(n) * zoom)) for n in (high - low)[shown])
    if volume is None:
        picture = Image.new("RGB", (size[0], size[1]), (_BEHIND,) * 3)
    else:
        level = max(0, min(volume.n_levels - 1, int(np.log2(max(1.0 / zoom, 1.0)))))
        start = np.maximum(low[::-1], 0).astype(int) // 2**level
        stop = np.maximum(high[::-1].astype(int) // 2**level, start + 1)
        plane = 2 - axis
        start[plane] = at // 2**level
        stop[plane] = start[plane] + 1
        block = volume.read(level, tuple(start.tolist()), tuple(stop.tolist())).squeeze(axis=plane)
        grey = (block // (257 if block.dtype == np.uint16 else 1)).astype(np.uint8)
        picture = Image.fromarray(grey).convert("RGB").resize((size[0], size[1]))
    pen = ImageDraw.Draw(picture)
    for line in crossings(surface, axis, at + 0.5):
        ends = (line - low)[:, shown] * zoom
        pen.line([tuple(end) for end in ends.tolist()], fill=_LINE, width=2)
    for x, y in ((marked[np.abs(marked[:, axis] - at) < _SLAB] - low)[:, shown] * zoom).tolist():
        pen.ellipse([x - _RING, y - _RING, x + _RING, y + _RING], outline=_SUSPECT)
    return _png(picture)


def _places(surface: "Surface", cells: Cells) -> NDArray[np.float64]:
    """Return where the valid ones of some vertices lie, shape (n, 3)."""
    at = np.array(cells, np.int64).reshape(-1, 2)
    at = at[((at >= 0) & (at < surface.shape)).all(axis=1)]
    rows, cols = at[surface.valid[tuple(at.T)]].T
    return np.asarray(surface.points_xyz[rows, cols], np.float64)


def grid_pictures(
    surface: "Surface", winding: NDArray[np.float32] | None, suspects: Cells = ()
) -> dict[str, bytes]:
    """Return pictures of the grid of a surface.

    Parameters
    ----------
    surface : Surface
        A surface.
    winding : ndarray of float32, shape (rows, cols), optional
        Its winding.
    suspects : sequence of (row, col)
        Places to look at.

    Returns
    -------
    dict
        Title to PNG: winding, confidence (where there is such a channel), distortion, holes with
        folds and suspects.
    """
    from tracer.check.measures import folded_cells
    from tracer.flatten import cell_maps

    found = {}
    if winding is not None:
        found["winding"] = rainbow(winding.astype(np.float64))
    if "confidence" in surface.channels:
        confidence = surface.channels["confidence"].astype(np.float64)
        found["confidence"] = heat(np.where(surface.valid, confidence, np.nan))
    singular, _ = cell_maps(surface)
    stretch = np.maximum(singular[:, 0], 1.0 / np.maximum(singular[:, 1], 1e-6)) - 1.0
    cells = np.full(surface.valid_quads.shape, np.nan)
    cells[surface.valid_quads] = 1.0 - np.clip(stretch / _WORST_STRETCH, 0.0, 1.0)
    found["distortion (green: none)"] = heat(cells)
    shape = np.where(surface.valid[..., None], [90, 160, 235], [20, 20, 20]).astype(np.uint8)
    folded = np.pad(folded_cells(surface), ((0, 1), (0, 1)))
    shape[folded] = (255, 60, 60)
    for row, col in suspects:
        if row < shape.shape[0] and col < shape.shape[1]:
            shape[row, col] = _SUSPECT
    found["holes (dark), folds (red), suspects (yellow)"] = shape
    return {title: grid_png(pixels) for title, pixels in found.items()}


def grid_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a picture of a grid, enlarged.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (rows, cols, 3)
        RGB.

    Returns
    -------
    bytes
        PNG.
    """
    from PIL import Image

    zoom = _GRID_PIXELS / max(pixels.shape[:2])
    size = (max(1, round(pixels.shape[1] * zoom)), max(1, round(pixels.shape[0] * zoom)))
    return _png(Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST))


def _png(picture: "Image.Image") -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return out.getvalue()
