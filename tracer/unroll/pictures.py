"""Pictures to judge an unrolling by: the plane, a cross-section, and one per suspect."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer.atomic import replacing_file
from tracer.unroll.data_pass import PredictionVolume, sample_foreground
from tracer.unroll.inpaint import DATA, FILLED
from tracer.unroll.stage import Solved, Unrolled
from tracer.unroll.suspects import Suspect

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

_PIXELS_WIDE = 1600  # of a picture; a longer plane is broken into lines like text
_BACKGROUND = (18, 18, 22)
_LINE_GAP = 6  # pixels between the lines of a broken plane
_MOST_NODES = 1_000_000  # of a picture of the plane; larger ones are thinned out
_HALF_WINDOW = 90.0  # voxels around a suspect
_SLAB = 12.0  # voxels to either side of a suspect's section in which vertices are drawn
_SECTION_PIXELS = 1400
_WINDOW_PIXELS = 720


def rainbow(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return colours that repeat every turn, so that a wrap is told from the next.

    Parameters
    ----------
    values : ndarray of float64, shape (...)
        Windings; NaN is background.

    Returns
    -------
    ndarray of uint8, shape (..., 3)
        RGB.
    """
    known = np.isfinite(values)
    phase = np.where(known, values, 0.0)[..., None] * 0.381966 + np.array([0.0, 1 / 3, 2 / 3])
    shade = 0.62 + 0.38 * np.cos(2 * np.pi * phase)
    light = 0.75 + 0.25 * np.cos(2 * np.pi * np.where(known, values, 0.0))[..., None]
    colour = np.clip(255 * shade * light, 0, 255)
    return np.where(known[..., None], colour, _BACKGROUND).astype(np.uint8)


def heat(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return colours from dark red (0) over yellow to green (1).

    Parameters
    ----------
    values : ndarray of float64, shape (...)
        0 to 1; NaN is background.

    Returns
    -------
    ndarray of uint8, shape (..., 3)
        RGB.
    """
    known = np.isfinite(values)
    at = np.clip(np.where(known, values, 0.0), 0, 1)
    stops = np.array([0.0, 0.35, 0.7, 1.0])
    table = np.array([[120, 20, 30], [230, 120, 30], [240, 220, 70], [40, 170, 90]], float)
    colour = np.stack([np.interp(at, stops, table[:, k]) for k in range(3)], axis=-1)
    return np.where(known[..., None], colour, _BACKGROUND).astype(np.uint8)


def plane_pictures(
    unrolled: Unrolled, outlines: NDArray[np.float64] | None, folder: Path
) -> list[Path]:
    """Write the plane coloured by confidence and by winding, with outlines and holes.

    Parameters
    ----------
    unrolled : Unrolled
        A component.
    outlines : ndarray of float64, shape (k, 2, 2), or None
        Ends of lines around the patches, U and V, voxels.
    folder : Path
        Where to write.

    Returns
    -------
    list of Path
        ``plane_confidence.png`` and ``plane_winding.png``.
    """
    sheet, state = unrolled.sheet, unrolled.state
    confidence = np.where(state > 0, sheet.confidence.astype(np.float64), np.nan)
    pictures = {
        "plane_confidence.png": heat(confidence),
        "plane_winding.png": rainbow(np.where(state > 0, sheet.winding, np.nan)),
    }
    filled = state == FILLED
    stripe = (np.add.outer(np.arange(state.shape[0]), np.arange(state.shape[1])) % 3) == 0
    pictures["plane_confidence.png"][filled & stripe] = (70, 90, 160)
    lines = None if outlines is None else (outlines - sheet.origin_uv) / sheet.step
    rims = {"plane_confidence.png": lines, "plane_winding.png": None}
    return [_write_lines(pixels, rims[name], folder / name) for name, pixels in pictures.items()]


def _write_lines(pixels: NDArray[np.uint8], rims: NDArray[np.float64] | None, path: Path) -> Path:
    """Write a long picture as lines of text height, each a stretch of columns."""
    from PIL import Image, ImageDraw

    rows, cols = pixels.shape[:2]
    stride = max(1, -(-cols * rows // _MOST_NODES))
    scale = max(1, min(8, 480 // max(rows // stride, 1)))
    per_line = max(1, _PIXELS_WIDE // scale)
    pixels = pixels[::stride, ::stride]
    pixels = np.repeat(np.repeat(pixels, scale, axis=0), scale, axis=1)
    strip = Image.fromarray(pixels)
    if rims is not None:
        draw = ImageDraw.Draw(strip, "RGBA")
        for line in ((rims / stride + 0.5) * scale).reshape(-1, 4).tolist():
            draw.line(line, fill=(0, 0, 0, 110), width=1)
    wide = per_line * scale
    n_lines = -(-strip.width // wide)
    height = strip.height + _LINE_GAP
    page = Image.new("RGB", (min(wide, strip.width), n_lines * height), (255, 255, 255))
    for line in range(n_lines):
        page.paste(
            strip.crop((line * wide, 0, (line + 1) * wide, strip.height)), (0, line * height)
        )
    return _save(page, path)


def _save(image: "Image.Image", path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(path) as temporary:
        image.save(temporary, format="PNG")
    return path


def section_picture(
    unrolled: Unrolled,
    path: Path,
    *,
    z: float | None = None,
    prediction: PredictionVolume | None = None,
    threshold: int = 170,
) -> Path:
    """Write a cross-section at constant z with the surface drawn in, wrap by wrap.

    Parameters
    ----------
    unrolled : Unrolled
        A component.
    path : Path
        PNG to write.
    z : float, optional
        Height; the middle of the surface where omitted.
    prediction : PredictionVolume, optional
        Drawn underneath.
    threshold : int
        Lowest value of it that counts as sheet.

    Returns
    -------
    Path
        The picture. Data is drawn bright, filled parts thin and white.
    """
    points, state = unrolled.sheet.points_xyz, unrolled.state
    heights = points[state > 0][:, 2]
    level = float(np.median(heights)) if z is None else z
    low = np.nanmin(points[..., :2], axis=(0, 1)) - 10
    high = np.nanmax(points[..., :2], axis=(0, 1)) + 10
    scale = _SECTION_PIXELS / float((high - low).max())
    size = np.ceil((high - low) * scale).astype(int)

    def place(x: float, y: float) -> NDArray[np.float64]:
        return np.array([x / scale + low[0], y / scale + low[1], level])

    image, draw = _canvas(size, prediction, threshold, place)
    colours = rainbow(unrolled.sheet.winding)
    row = np.arange(points.shape[0] - 1)
    before, before_data = None, False
    for col in range(points.shape[1]):
        a, b = points[:-1, col], points[1:, col]
        crosses = np.flatnonzero((a[:, 2] - level) * (b[:, 2] - level) <= 0)
        if not len(crosses):
            before = None
            continue
        k = int(row[crosses[0]])
        rise = b[k, 2] - a[k, 2]
        share = (level - a[k, 2]) / rise if rise else 0.0
        here = ((a[k] + share * (b[k] - a[k]))[:2] - low) * scale
        is_data = bool(state[k, col] == DATA)
        if before is not None:
            both = is_data and before_data
            colour = tuple(colours[k, col].tolist()) if both else (255, 255, 255)
            draw.line([tuple(before), tuple(here)], fill=colour, width=3 if both else 1)
        before, before_data = here, is_data
    return _save(image, path)


def _canvas(
    size: NDArray[Any],
    prediction: PredictionVolume | None,
    threshold: int,
    place: Callable[[float, float], NDArray[np.float64]],
) -> "tuple[Image.Image, ImageDraw.ImageDraw]":
    """Return an image with the prediction in grey, and a pen for it."""
    from PIL import Image, ImageDraw

    width, height = (int(n) for n in size)
    pixels = np.full((height, width, 3), _BACKGROUND, np.uint8)
    if prediction is not None:
        origin, right, down = place(0, 0), place(1, 0) - place(0, 0), place(0, 1) - place(0, 0)
        columns, rows = np.meshgrid(np.arange(width), np.arange(height))
        points = origin + columns[..., None] * right + rows[..., None] * down
        share = sample_foreground(prediction, points.reshape(-1, 3), threshold)
        grey = share.reshape(height, width, 1) * 85
        pixels = np.clip(pixels + grey, 0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    return image, ImageDraw.Draw(image)


def suspect_picture(
    suspect: Suspect,
    solved: Solved,
    path: Path,
    *,
    prediction: PredictionVolume | None = None,
    threshold: int = 170,
) -> Path:
    """Write the surroundings of a suspect, cut across the sheet.

    Parameters
    ----------
    suspect : Suspect
        What to show.
    solved : Solved
        The patches.
    path : Path
        PNG to write.
    prediction : PredictionVolume, optional
        Drawn underneath.
    threshold : int
        Lowest value of it that counts as sheet.

    Returns
    -------
    Path
        The picture: outward is up; the suspect's patch is red and its cells are dots, others are
        coloured by wrap.
    """
    patches, layout = solved.patches, solved.layout
    centre = np.array(suspect.xyz)
    points = patches.points_xyz
    near = np.flatnonzero((np.abs(points - centre) < 1.8 * _HALF_WINDOW).all(axis=1))
    own = patches.names.index(suspect.patch)
    up, along = _section_axes(solved, near, own, suspect)
    across = np.cross(up, along)
    offset = points[near].astype(np.float64) - centre
    flat = np.stack([offset @ along, -(offset @ up)], axis=1)
    scale = _WINDOW_PIXELS / (2 * _HALF_WINDOW)
    drawn = np.abs(offset @ across) <= _SLAB
    pixel = np.full((len(points), 2), np.nan)
    pixel[near[drawn]] = (flat[drawn] + _HALF_WINDOW) * scale

    def place(x: float, y: float) -> NDArray[np.float64]:
        return np.asarray(
            centre + (x / scale - _HALF_WINDOW) * along - (y / scale - _HALF_WINDOW) * up
        )

    image, draw = _canvas(np.array([_WINDOW_PIXELS] * 2), prediction, threshold, place)
    colours = np.zeros((len(points), 3), np.uint8)
    colours[near] = rainbow(np.floor(layout.winding[near] - np.nanmin(layout.winding)) + 0.01)
    shown = np.isfinite(pixel[:, 0])
    edges = np.flatnonzero(shown[patches.edges].all(axis=1))
    edges = edges[np.argsort(patches.grid[patches.edges[edges, 0], 0] == own, kind="stable")]
    for edge in edges.tolist():
        i, j = patches.edges[edge].tolist()
        mine = patches.grid[i, 0] == own
        colour = (255, 60, 60) if mine else tuple(colours[i].tolist())
        draw.line([tuple(pixel[i]), tuple(pixel[j])], fill=colour, width=4 if mine else 2)
    chosen = set(suspect.cells)
    for i in near[patches.grid[near, 0] == own].tolist():
        if tuple(patches.grid[i, 1:].tolist()) in chosen and np.isfinite(pixel[i, 0]):
            x, y = pixel[i].tolist()
            draw.ellipse([x - 6, y - 6, x + 6, y + 6], fill=(255, 230, 90))
    draw.text((8, 8), f"{suspect.kind} {suspect.patch} at {suspect.xyz}", fill=(255, 255, 255))
    return _save(image, path)


def _section_axes(
    solved: Solved, near: NDArray[np.int64], own: int, suspect: Suspect
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return outward, and the direction in the sheet along which the patch leaves it."""
    patches, frames = solved.patches, solved.frames
    others = near[patches.grid[near, 0] != own]
    pool = others if len(others) else near
    up = frames.n[pool].astype(np.float64).sum(axis=0) if len(pool) else np.array([1.0, 0, 0])
    length = np.linalg.norm(up)
    up = up / length if length > 0 else np.array([1.0, 0.0, 0.0])
    mine = near[patches.grid[near, 0] == own]
    spread = patches.points_xyz[mine].astype(np.float64) - np.array(suspect.xyz)
    height = spread @ up
    along = (spread * (height - height.mean())[:, None]).sum(axis=0) if len(mine) else up
    along = along - up * (along @ up)
    if np.linalg.norm(along) < 1e-6:
        along = np.cross(up, np.array([0.0, 0.0, 1.0])) + 1e-9
    return up, along / np.linalg.norm(along)
