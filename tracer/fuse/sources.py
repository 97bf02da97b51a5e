"""Traces with their windings: loading, and one common winding for all of them."""

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracer.errors import NothingFoundError, SurfaceError, TracerWarning

if TYPE_CHECKING:
    from tracer.surface import Surface

_VC3D_MARGIN = 4  # nodes by which VC3D's windings of fused surfaces are larger on every side
_FEWEST_MATCHES = 10  # points at which two traces must meet
_TOLERANCES = (2.0, 5.0, 10.0)  # voxels; the first that gives enough of them
_SPREAD = (10.0, 90.0)  # percentiles of the offsets that must lie close together
_WIDEST = 0.5  # wraps; a wider spread says that the windings do not belong together


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """A trace, the winding of its vertices and how much it counts.

    Attributes
    ----------
    surface : Surface
        The trace.
    winding : ndarray of float64, shape (rows, cols)
        NaN where unknown.
    weight : float
        Its weight.
    """

    surface: "Surface"
    winding: NDArray[np.float64]
    weight: float = 1.0


def load_sources(triples: Sequence[tuple[Path, Path | None, float]]) -> list[Source]:
    """Return traces with their windings.

    Parameters
    ----------
    triples : sequence of (Path, Path or None, float)
        Surface, winding image and weight. None: ``winding.tif`` inside the surface, and where it
        is known ``winding_exact.tif``.

    Returns
    -------
    list of Source
        In the order given.

    Raises
    ------
    SurfaceError
        If a winding is missing or does not fit its surface.
    """
    from tracer.surface import Surface
    from tracer.tif import read_tif

    sources = []
    for path, given, weight in triples:
        surface = Surface.load(path, channels=())
        at = given or path / "winding.tif"
        if not at.exists():
            raise SurfaceError(f"{at}: no such winding; run `tracer winding {path}` first")
        winding = _fit(read_tif(at).astype(np.float64), surface.shape, at)
        exact = path / "winding_exact.tif"
        if given is None and exact.exists():  # VC3D's is NaN where it had no source
            sampled = _fit(read_tif(exact).astype(np.float64), surface.shape, exact)
            winding = np.where(np.isfinite(sampled), sampled, winding)
        known = surface.valid & np.isfinite(winding)
        if not known.any() or not np.ptp(winding[known]) > 0:
            raise SurfaceError(
                f"{at}: the winding is the same everywhere; run `tracer winding {path}`"
            )
        sources.append(
            Source(surface=surface, winding=np.where(known, winding, np.nan), weight=weight)
        )
    return sources


def _fit(winding: NDArray[np.float64], shape: tuple[int, int], at: Path) -> NDArray[np.float64]:
    """Return a winding of the grid's size."""
    if winding.shape == shape:
        return winding
    m = _VC3D_MARGIN
    if winding.shape == (shape[0] + 2 * m, shape[1] + 2 * m):
        warnings.warn(
            f"{at}: larger than its surface by {m} on every side, as VC3D writes it: cropped",
            TracerWarning,
            stacklevel=3,
        )
        return winding[m:-m, m:-m]
    raise SurfaceError(f"{at}: shape {winding.shape}, but its surface has {shape}")


def winding_at(
    source: Source, rows: NDArray[np.float64], cols: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the winding at places on a source, bilinear.

    Parameters
    ----------
    source : Source
        A trace.
    rows, cols : ndarray of float64, shape (n,)
        Fractional grid positions.

    Returns
    -------
    ndarray of float64, shape (n,)
        NaN outside and beside unknown vertices.
    """
    winding = source.winding
    r = np.clip(np.floor(rows).astype(np.int64), 0, winding.shape[0] - 2)
    c = np.clip(np.floor(cols).astype(np.int64), 0, winding.shape[1] - 2)
    s, t = cols - c, rows - r
    out = np.zeros(len(rows))
    for dr, dc, share in (
        (0, 0, (1 - s) * (1 - t)),
        (0, 1, s * (1 - t)),
        (1, 0, (1 - s) * t),
        (1, 1, s * t),
    ):
        used = share > 1e-9
        out[used] += share[used] * winding[r + dr, c + dc][used]
    return out


def align(sources: Sequence[Source]) -> list[Source]:
    """Return the sources with windings that agree with the first one's.

    Parameters
    ----------
    sources : sequence of Source
        The first is the reference. The others may count backwards and from anywhere.

    Returns
    -------
    list of Source
        In the same order.

    Raises
    ------
    NothingFoundError
        If a source meets none of the others, or only at contradicting windings.
    """
    from tracer.spatial_index import SpatialIndex

    aligned: dict[int, Source] = {0: sources[0]}
    waiting = list(range(1, len(sources)))
    while waiting:
        index = SpatialIndex.from_surfaces(
            {f"{k:08d}": aligned[k].surface for k in sorted(aligned)}
        )
        numbers = sorted(aligned)
        found = []
        for k in waiting:
            turned = _turned(sources[k], index, [aligned[n] for n in numbers])
            if turned is not None:
                found.append((k, turned))
        if not found:
            names = ", ".join(sources[k].surface.name or str(k) for k in waiting)
            raise NothingFoundError(
                f"{names}: meets no other trace at consistent windings; check its winding.tif, or "
                "leave it out"
            )
        aligned.update(found)
        waiting = [k for k in waiting if k not in aligned]
    return [aligned[k] for k in range(len(sources))]


def _turned(source: Source, index: "object", others: Sequence[Source]) -> Source | None:
    """Return a source aligned to others that are in an index; None where they do not meet."""
    from tracer.spatial_index import SpatialIndex

    assert isinstance(index, SpatialIndex)
    known = np.isfinite(source.winding)
    points, own = source.surface.points_xyz[known], source.winding[known]
    for tolerance in _TOLERANCES:
        hits = index.query(points, tolerance)
        theirs = np.full(len(hits), np.nan)
        for number, other in enumerate(others):
            on = hits.patch_index == number
            theirs[on] = winding_at(other, hits.rows[on], hits.cols[on])
        met = np.isfinite(theirs)
        if met.sum() < _FEWEST_MATCHES:
            continue
        mine, theirs = own[hits.point_index[met]], theirs[met]
        spreads = []
        for sign in (1.0, -1.0):
            low, high = np.percentile(theirs - sign * mine, _SPREAD)
            spreads.append((float(high - low), -sign))
        spread, negative = min(spreads)
        if spread > _WIDEST:
            continue
        offset = float(np.median(theirs + negative * mine))
        return dataclasses.replace(source, winding=-negative * source.winding + offset)
    return None
