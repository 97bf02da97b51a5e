"""Surfaces of overlapping slabs put together: groups of components, and one grid for each group.

The components of one slab are recognised in the next by the vertices that lie in both. Every
component of every slab belongs to a group; groups that a later slab joins get a whole number of
turns and of grid steps between them, so that nothing has to be resampled.
"""

import dataclasses
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.sheet import Sheet

_APART = 4.0  # voxels beyond which two slabs show different sheets at a node
_RIM = 1e-3  # weight of a node at the end of its slab, where the other slab has none


@dataclass(frozen=True, slots=True)
class Frame:
    """What is added to winding, U and V of a group to get those of its root.

    Attributes
    ----------
    turns : int
        Turns.
    u, v : float
        Voxels; whole grid steps.
    """

    turns: int = 0
    u: float = 0.0
    v: float = 0.0


@dataclass(slots=True)
class Groups:
    """Groups of components, joined as slabs come.

    Attributes
    ----------
    parents : list of int
        Of each group; its own number for a root.
    frames : list of Frame
        Towards the parent.
    """

    parents: list[int] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)

    def add(self) -> int:
        """Return the number of a new group.

        Returns
        -------
        int
            Counting from 0.
        """
        self.parents.append(len(self.parents))
        self.frames.append(Frame())
        return len(self.parents) - 1

    def find(self, group: int) -> tuple[int, Frame]:
        """Return the root of a group and what leads there.

        Parameters
        ----------
        group : int
            A group.

        Returns
        -------
        root : int
            Another, or the same.
        frame : Frame
            To be added.
        """
        turns, u, v = 0, 0.0, 0.0
        while self.parents[group] != group:
            frame = self.frames[group]
            turns, u, v = turns + frame.turns, u + frame.u, v + frame.v
            group = self.parents[group]
        return group, Frame(turns, u, v)

    def towards_roots(
        self, groups: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return the roots of many groups and what leads there.

        Parameters
        ----------
        groups : ndarray of int64, shape (k,)
            Groups.

        Returns
        -------
        roots : ndarray of int64, shape (k,)
            Their roots.
        turns : ndarray of int64, shape (k,)
            To be added to windings.
        shifts : ndarray of float64, shape (k, 2)
            To be added to U and V, voxels.
        """
        found = [self.find(group) for group in range(len(self.parents))]
        roots = np.array([root for root, _ in found], np.int64)
        turns = np.array([frame.turns for _, frame in found], np.int64)
        shifts = np.array([[frame.u, frame.v] for _, frame in found], np.float64).reshape(-1, 2)
        return roots[groups], turns[groups], shifts[groups]

    def join(self, group: int, other: int, frame: Frame) -> None:
        """Join the root of one group to the root of another.

        Parameters
        ----------
        group : int
            A group; its root stays one.
        other : int
            A group with another root.
        frame : Frame
            What is added in `other` to get what it is in `group`.
        """
        root, outer = self.find(group)
        joined, inner = self.find(other)
        self.parents[joined] = root
        self.frames[joined] = Frame(
            frame.turns + outer.turns - inner.turns,
            frame.u + outer.u - inner.u,
            frame.v + outer.v - inner.v,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """A component of one slab as a grid.

    Attributes
    ----------
    group : int
        Its group.
    sheet : Sheet
        Its surface.
    z_ramps : tuple of float
        Four heights: the slab begins, its lower overlap ends, its upper one begins, the slab ends.
    """

    group: int
    sheet: Sheet
    z_ramps: tuple[float, float, float, float]


def merge_pieces(pieces: list[Piece], groups: Groups) -> Sheet:
    """Return the pieces of one root on one grid, faded over where slabs overlap.

    Parameters
    ----------
    pieces : list of Piece
        All with the same root, from the lowest slab up.
    groups : Groups
        Their groups.

    Returns
    -------
    Sheet
        Without counts per patch, which mean something within a slab only.
    """
    step = pieces[0].sheet.step
    placed = []
    for piece in pieces:
        _, frame = groups.find(piece.group)
        u, v = piece.sheet.origin_uv[0] + frame.u, piece.sheet.origin_uv[1] + frame.v
        placed.append((round(v / step), round(u / step), frame.turns))
    first_row, first_col = min(p[0] for p in placed), min(p[1] for p in placed)
    rows = max(p[0] + q.sheet.winding.shape[0] for p, q in zip(placed, pieces, strict=True))
    cols = max(p[1] + q.sheet.winding.shape[1] for p, q in zip(placed, pieces, strict=True))
    shape = (rows - first_row, cols - first_col)
    empty = np.zeros(0, np.int64)
    whole = Sheet(
        points_xyz=np.full((*shape, 3), np.nan),
        winding=np.full(shape, np.nan),
        confidence=np.zeros(shape, np.float32),
        agreeing=np.zeros(shape, np.float32),
        origin_uv=(first_col * step, first_row * step),
        step=step,
        outliers=empty,
        samples=empty,
        beyond=np.full((*shape, 4), np.nan, np.float32),
    )
    total = np.zeros(shape, np.float32)
    for (row, col, turns), piece in zip(placed, pieces, strict=True):
        box = (slice(row - first_row, None), slice(col - first_col, None))
        _add(whole, total, box, piece, turns)
    return whole


def _add(
    whole: Sheet,
    total: NDArray[np.float32],
    corner: tuple[slice, slice],
    piece: Piece,
    turns: int,
) -> None:
    """Average one piece into the whole where both show the same, else keep the heavier one."""
    sheet = piece.sheet
    rows, cols = sheet.winding.shape
    box = (
        slice(corner[0].start, corner[0].start + rows),
        slice(corner[1].start, corner[1].start + cols),
    )
    weight = np.where(sheet.valid, _weight(sheet.points_xyz[..., 2], piece.z_ramps), 0.0)
    winding = sheet.winding + turns
    old = total[box]
    with np.errstate(invalid="ignore"):
        apart = np.linalg.norm(whole.points_xyz[box] - sheet.points_xyz, axis=-1)
        same = (old > 0) & (apart < _APART) & (np.abs(whole.winding[box] - winding) < 0.5)
    takes = (weight > 0) & ~same & (weight > old)
    share = np.where(same & (weight > 0), weight / np.maximum(old + weight, 1e-9), 0.0)
    share = np.where(takes, 1.0, share)
    used = share > 0
    for target, values in (
        (whole.points_xyz, sheet.points_xyz),
        (whole.winding, winding),
        (whole.confidence, sheet.confidence),
        (whole.agreeing, sheet.agreeing),
    ):
        part = share[..., None] if values.ndim == 3 else share
        before = np.where(np.isnan(target[box]), 0.0, target[box])
        mixed = (1.0 - part) * before + part * np.where(np.isnan(values), 0.0, values)
        chosen = used[..., None] if values.ndim == 3 else used
        target[box] = np.where(chosen, mixed, target[box])
    if whole.beyond is not None and sheet.beyond is not None:
        further = sheet.beyond + np.array([0.0, 0.0, 0.0, turns], np.float32)
        known = np.isfinite(whole.beyond[box])
        whole.beyond[box] = np.where(known, whole.beyond[box], further)
    total[box] = np.where(takes, weight, np.where(used, old + weight, old))


def _weight(
    z: NDArray[np.float64], ramps: tuple[float, float, float, float]
) -> NDArray[np.float64]:
    """Return how much nodes at some heights count: less towards the ends of their slab."""
    bottom, low, high, top = ramps
    rising = (z - bottom) / (low - bottom) if low > bottom else np.ones_like(z)
    falling = (top - z) / (top - high) if top > high else np.ones_like(z)
    return np.asarray(np.clip(np.minimum(rising, falling), _RIM, 1.0))


def light(sheet: Sheet) -> Sheet:
    """Return a sheet that takes half the memory while it waits.

    Parameters
    ----------
    sheet : Sheet
        Positions of nodes in double precision.

    Returns
    -------
    Sheet
        The same in single precision, without counts per patch.
    """
    empty = np.zeros(0, np.int64)
    return dataclasses.replace(
        sheet,
        points_xyz=sheet.points_xyz.astype(np.float32),
        winding=sheet.winding.astype(np.float32),
        outliers=empty,
        samples=empty,
    )
