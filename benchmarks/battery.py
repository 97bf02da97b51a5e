"""A wound battery cell: a real spiral, of which every wrap can be counted without our code.

A strip coated on both sides winds 21 times around a mandrel. Its coating is brighter than what lies
between, so that the wraps on a ray from the middle are runs of bright voxels: neighbours on a ray
have to be one turn apart. Where the coating is missing (one place, on some rays) they are two turns
apart and further from each other, and are not compared. The CT is doubled in size, so that the
strip is as far from itself as papyrus usually is.
"""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from benchmarks.growth_inputs import DATA, WORK, Input
from tracer.surface import Surface

BATTERY = DATA / "real" / "battery" / "wound_cell_35x728x728_zyx_u8.tif"

_TIMES = 2  # the CT is made larger
_CASE = 110  # grey value; beyond: the metal case
_COATING = 58  # grey value; beyond: the coated strip, if it is as thick as this:
_THINNEST = 6.0  # voxels; a separator is thinner
_MIDDLE_XY = 728.0, 756.0  # of the doubled CT
_RAYS, _EVERY_Z, _ALONG = 720, 10, 0.25  # rays, slices between them, voxels between samples
_NEAR = 3.0  # voxels; a surface this near to a wrap is on it
_FINE = 4  # samples per side of a quad


def battery() -> Input | None:
    """Return the mid-line of the strip as a prediction, None where the CT is not at hand."""
    if not BATTERY.is_file():
        return None
    from click.testing import CliRunner

    from tracer.cli.main import tracer as command

    code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    folder = WORK / f"battery-{code}"
    coating, strip, middle = (folder / n for n in ("coating.tif", "strip.zarr", "mid_line.zarr"))
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tifffile.imwrite(coating, (_coated(_doubled()) * 255).astype(np.uint8))
        thinning = "--thin --half-width 2 --hole-radius 0 --max-thickness 20 --normal-sigma 6"
        for words in (
            f"prepare {coating} {strip} --voxel-size-um 4 --convert keep",
            f"predict clean {strip} {middle} {thinning} --min-component 5000",
        ):
            CliRunner().invoke(command, ["--quiet", *words.split()], catch_exceptions=False)
        (folder / "done").touch()
    return Input(middle)


def score(surfaces: list[Surface], windings: list[NDArray[np.float32]]) -> dict[str, float]:
    """Return how unrolled surfaces lie on the wraps that rays from the middle meet.

    Parameters
    ----------
    surfaces : list of Surface
        Unrolled.
    windings : list of ndarray of float32
        Winding number of each vertex of each; differences between surfaces mean nothing.

    Returns
    -------
    dict
        ``wraps`` on a ray at most; ``coverage``: share of the places where a ray meets the strip
        that have a surface within 3 voxels; ``distance_median`` and ``distance_p95`` of these, in
        voxels; ``pairs``: neighbours on a ray that both have a surface, and
        ``pairs not one turn apart``, a share.
    """
    places, ray = _wraps()
    points, numbers = [], []
    for number, (surface, winding) in enumerate(zip(surfaces, windings, strict=True)):
        fine = _refined(np.dstack([surface.points_xyz, winding]), surface.valid)
        points.append(fine)
        numbers.append(np.full(len(fine), number))
    found, of_surface = np.concatenate(points), np.concatenate(numbers)
    distance, nearest = cKDTree(found[:, :3]).query(places, distance_upper_bound=_NEAR)
    on = np.isfinite(distance)
    pair = np.flatnonzero((ray[1:] == ray[:-1]) & on[1:] & on[:-1])
    gap = np.linalg.norm(places[pair + 1] - places[pair], axis=1)
    pair = pair[gap < 1.5 * np.median(gap)]
    inner, outer = nearest[pair], nearest[pair + 1]
    same = of_surface[inner] == of_surface[outer]
    apart = found[outer, 3] - found[inner, 3]
    return {
        "wraps": int(np.bincount(ray).max()),
        "coverage": float(on.mean()),
        "distance_median": float(np.median(distance[on])),
        "distance_p95": float(np.percentile(distance[on], 95)),
        "pairs": len(pair),
        "pairs not one turn apart": float(1 - (same & (np.abs(apart - 1) < 0.5)).mean()),
    }


def _doubled() -> NDArray[np.float32]:
    """Return the CT without its case, twice as large and a little smoothed."""
    ct = tifffile.imread(BATTERY)
    ct[ndimage.binary_dilation(ct > _CASE, iterations=_TIMES * 2)] = 0
    large = ndimage.zoom(ct, _TIMES, order=1, grid_mode=True, mode="nearest")
    return ndimage.gaussian_filter(large.astype(np.float32), 1.0)


def _coated(ct: NDArray[np.float32]) -> NDArray[np.bool_]:
    return ct > _COATING


def _wraps() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the places (x, y, z) where rays meet the middle of the strip, outward, and the rays'
    numbers.
    """
    ct = _doubled()
    x, y = _MIDDLE_XY
    radii = np.arange(20.0, min(ct.shape[1:]) / 2, _ALONG)
    azimuths = np.arange(_RAYS) * 2 * np.pi / _RAYS
    direction = np.stack([np.cos(azimuths), np.sin(azimuths)], axis=1)
    places, rays = [], []
    for z in range(_EVERY_Z // 2, len(ct), _EVERY_Z):
        xs, ys = (m + np.outer(direction[:, k], radii) for k, m in enumerate((x, y)))
        bright = _coated(ndimage.map_coordinates(ct[z], [ys, xs], order=1))
        ends = np.diff(bright.astype(np.int8), axis=1, prepend=0, append=0)
        first, last = (np.argwhere(ends == sign) for sign in (1, -1))
        thick = (last[:, 1] - first[:, 1]) * _ALONG >= _THINNEST
        ray, begin, end = first[thick, 0], first[thick, 1], last[thick, 1]
        middle = radii[0] + (begin + end - 1) / 2 * _ALONG
        at = np.array([x, y]) + middle[:, None] * direction[ray]
        places.append(np.column_stack([at, np.full(len(at), float(z))]))
        rays.append(ray + z * _RAYS)
    return np.concatenate(places), np.concatenate(rays)


def _refined(values: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return samples of bilinear quads with four valid corners, shape (n, channels)."""
    whole = valid[:-1, :-1] & valid[1:, :-1] & valid[:-1, 1:] & valid[1:, 1:]
    a, b, c, d = (
        values[rows, columns][whole]
        for rows in (slice(None, -1), slice(1, None))
        for columns in (slice(None, -1), slice(1, None))
    )
    shares = np.arange(_FINE + 1) / _FINE
    return np.concatenate(
        [
            (1 - v) * ((1 - u) * a + u * b) + v * ((1 - u) * c + u * d)
            for u in shares
            for v in shares
        ]
    )
