"""Where a surface leaves its sheet for the next one: its own shape against its neighbours'.

Over a short window along a row (or down a column) a sheet that goes on has no *slip*: the chord is
perpendicular to the mean of the normals at its ends, on any arc. A jump slips by about the gap
between wraps. A crease slips too, but then the neighbouring wraps follow it; at a jump the distance
to them changes by the slip. Both must agree where a neighbour is seen on both ends of the window.
A jump slips by the same amount over a wider window as well; a bend, or the growth of a spiral's
radius, slips by more.

A jump over several cells hides in the normals, which lean along with it. There the neighbours alone
tell: one wrap is missing outside before a jump outward and inside after it, so that a gap of twice
the width changes sides while the two neighbours stay as far apart as they were.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.winding.neighbours import Neighbours

_REACHES = (1, 2)  # cells added on either side of an edge: jumps over one to four cells
_SLIP_OF_GAP = 0.5  # of the gap, where neighbours confirm it
_ALONE_OF_GAP = 0.8  # where no neighbour is seen
_LASTS = 0.35  # share of the slip by which that over a wider window may differ
_AGREES = 0.5  # share of the slip by which the distance to a neighbour may differ from it
_SAME_WRAP = 4  # cells that what is seen may advance per cell, at most
_MOST_OF_GAP = 4.0  # a jump is to the next wrap, and gaps differ in a crushed scroll
_BEND = 0.5  # cosine of the turn over a window up to which a slip counts without a neighbour
_LEAN = 0.2  # 0 midway between the neighbours; 1/3 where the wrap on one side is missing
_LEAN_STEP = 0.1  # least change over an edge that takes part in a jump
_SPAN = 0.15  # share by which the distance between the neighbours may change meanwhile
_BLIND_SLIP = 0.9  # of a step, where the gap is unknown because no wrap sees another
_GAP_WINDOW = 15  # nodes over which the local gap is a median


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slips:
    """How many wraps a surface jumps along its edges.

    Attributes
    ----------
    turns : ndarray of int8, shape (rows, cols)
        For the edge from a node to the next along the axis: 1 where it jumps a wrap outward, -1
        inward, 0 else.
    of_gap : ndarray of float64, shape (rows, cols)
        Largest slip of any window around the edge, jump or not, as a share of the gap between
        wraps; NaN where no window fits.
    """

    turns: NDArray[np.int8]
    of_gap: NDArray[np.float64]


def local_gap(neighbours: Neighbours) -> NDArray[np.float64]:
    """Return the gap between wraps around every node.

    Parameters
    ----------
    neighbours : Neighbours
        What the nodes see.

    Returns
    -------
    ndarray of float64, shape (rows, cols)
        Lower quartile of the distances seen within some nodes, voxels: where a wrap is missing the
        next one is seen at twice the gap. The usual gap where nothing is seen; NaN without any.
    """
    usual = neighbours.gap
    rows, cols = neighbours.distance.shape[1:]
    gap = np.full((rows, cols), usual)
    if np.isnan(usual):
        return gap
    half = _GAP_WINDOW // 2
    for r in range(0, rows, half + 1):
        for c in range(0, cols, half + 1):
            box = (
                slice(None),
                slice(max(r - half, 0), r + half + 1),
                slice(max(c - half, 0), c + half + 1),
            )
            seen = neighbours.distance[box]
            seen = seen[np.isfinite(seen)]
            if len(seen) >= _GAP_WINDOW:
                gap[r : r + half + 1, c : c + half + 1] = np.percentile(seen, 25)
    return gap


def find_slips(
    points_xyz: NDArray[np.float64],
    normals: NDArray[np.float64],
    neighbours: Neighbours,
    step: float,
    axis: int,
) -> Slips:
    """Return where the edges along one axis of the grid jump.

    Parameters
    ----------
    points_xyz : ndarray of float64, shape (rows, cols, 3)
        Nodes; NaN where there are none.
    normals : ndarray of float64, shape (rows, cols, 3)
        Outward unit normals; NaN where unknown.
    neighbours : Neighbours
        What the nodes see.
    step : float
        Nominal distance of nodes, voxels.
    axis : int
        0 for edges down the columns, 1 along the rows.

    Returns
    -------
    Slips
        Edge (r, c) leads to (r + 1, c) or (r, c + 1).
    """
    points, normals = np.moveaxis(points_xyz, axis, 0), np.moveaxis(normals, axis, 0)
    seen = np.moveaxis(neighbours.distance, 1 + axis, 1)
    hit = np.moveaxis(np.stack([neighbours.row, neighbours.col], axis=-1), 1 + axis, 1)
    gap = np.moveaxis(local_gap(neighbours), axis, 0)
    gap = np.where(np.isnan(gap), step * _BLIND_SLIP / _ALONE_OF_GAP, gap)
    blind = np.isnan(neighbours.gap)
    turns = np.zeros(points.shape[:2], np.int8)
    size = np.zeros(points.shape[:2])
    largest = np.abs(_slip(points, normals, 0)) / gap
    for reach in _REACHES:
        slip = _slip(points, normals, reach)
        lasts = np.abs(_slip(points, normals, reach + 1) - slip) < _LASTS * np.abs(slip)
        confirmed, contested = _compare(seen, hit, slip, reach)
        large = np.abs(slip) / gap
        largest = np.fmax(largest, large)
        alone = (large > _ALONE_OF_GAP) & _is_straight(normals, reach)
        jumps = np.where(confirmed, large > _SLIP_OF_GAP, alone)
        jumps &= blind | (large < _MOST_OF_GAP)
        swap = _swapped(seen, hit, reach)
        turns = np.where(turns == 0, swap, turns)  # a slip of the other window still overrules it
        larger = jumps & lasts & ~contested & (np.abs(slip) > size)
        turns[larger] = np.sign(slip[larger])
        size[larger] = np.abs(slip[larger])
    return Slips(turns=np.moveaxis(turns, 0, axis), of_gap=np.moveaxis(largest, 0, axis))


def _window(n: int, reach: int) -> tuple[slice, slice, slice]:
    """Return the edges with a whole window around them, and the nodes at its ends."""
    width = 2 * reach + 1
    return slice(1 + reach, n - 2 - reach), slice(1, n - 2 - 2 * reach), slice(1 + width, n - 1)


def _slip(
    points: NDArray[np.float64], normals: NDArray[np.float64], reach: int
) -> NDArray[np.float64]:
    """Return how far the end of a window around each edge is off the sheet at its beginning."""
    slip = np.full(points.shape[:2], np.nan)
    n = len(points)
    if n < 2 * reach + 4:
        return slip
    at, a, b = _window(n, reach)
    # normals one node further out: theirs do not contain the edges of the window
    mean = normals[a.start - 1 : a.stop - 1] + normals[b.start + 1 : b.stop + 1]
    mean /= np.linalg.norm(mean, axis=-1, keepdims=True)
    slip[at] = np.einsum("ijk,ijk->ij", points[b] - points[a], mean)
    return slip


def _is_straight(normals: NDArray[np.float64], reach: int) -> NDArray[np.bool_]:
    """Return where a window turns so little that a bend cannot pass for a jump."""
    straight = np.zeros(normals.shape[:2], bool)
    n = len(normals)
    if n >= 2 * reach + 4:
        at, a, b = _window(n, reach)
        first, last = normals[a.start - 1 : a.stop - 1], normals[b.start + 1 : b.stop + 1]
        straight[at] = np.einsum("ijk,ijk->ij", first, last) > _BEND
    return straight


def _swapped(seen: NDArray[np.float64], hit: NDArray[np.int64], reach: int) -> NDArray[np.int8]:
    """Return where the wide gap beside a missing wrap changes sides: 1 for a jump outward."""
    turns = np.zeros(seen.shape[1:], np.int8)
    n = seen.shape[1]
    if n < 2 * reach + 4:
        return turns
    at, a, b = _window(n, reach)
    span = seen[0] + seen[1]
    lean = (seen[0] - seen[1]) / span
    same = np.abs(span[b] - span[a]) < _SPAN * (span[b] + span[a])
    for side in (0, 1):
        advance = np.abs(hit[side, b] - hit[side, a]).max(axis=-1)
        same &= advance <= _SAME_WRAP * (2 * reach + 1)
    step = lean[at] - lean[at.start + 1 : at.stop + 1]
    outward = same & (lean[a] > _LEAN) & (lean[b] < -_LEAN) & (step > _LEAN_STEP)
    inward = same & (lean[a] < -_LEAN) & (lean[b] > _LEAN) & (step < -_LEAN_STEP)
    turns[at] = outward.astype(np.int8) - inward.astype(np.int8)
    return turns


def _compare(
    seen: NDArray[np.float64], hit: NDArray[np.int64], slip: NDArray[np.float64], reach: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where a neighbouring wrap stays behind, and where one follows the slip."""
    confirmed, contested = np.zeros(slip.shape, bool), np.zeros(slip.shape, bool)
    n = len(slip)
    if n < 2 * reach + 4:
        return confirmed, contested
    at, a, b = _window(n, reach)
    for side, sign in ((0, -1.0), (1, 1.0)):
        change = seen[side, b] - seen[side, a]
        advance = np.abs(hit[side, b] - hit[side, a]).max(axis=-1)
        same = np.isfinite(change) & (advance <= _SAME_WRAP * (2 * reach + 1))
        behind = np.abs(change - sign * slip[at]) < _AGREES * np.abs(slip[at])
        confirmed[at] |= same & behind
        contested[at] |= same & ~behind & (np.abs(change) < _AGREES * np.abs(slip[at]))
    contested &= ~confirmed
    return confirmed, contested
