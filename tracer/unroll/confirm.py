"""Keep of the filled nodes only those that the wraps beside them confirm.

A guess beyond the rim of the data may be on any wrap: where wraps are eight voxels apart, the first
step of twenty beyond the rim is wrong as often as right. But a scroll's wraps lie on each other, so
that most of a sheet can be checked against the rest of it: along its normal a node on wrap `w` sees
wrap `w + 1` outward and `w - 1` inward, each one gap away. A node that sees so is confirmed; one
that sees another wrap there, or is nearer to it than it can be, is wrong. What nothing is seen of
stays only where data surrounds it, or as far as guesses were right where the truth is known: data
near the rim is hidden, filled again, and compared.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.data_pass import sheet_normals
from tracer.unroll.inpaint import DATA, FILLED, diffuse
from tracer.unroll.overlaps import QuadCells, cast_to_next
from tracer.unroll.patches import Patches
from tracer.unroll.sheet import Sheet

_ONE_GAP = (0.6, 1.45)  # distance of the next wrap in gaps: what lies beyond is not the next
_TOO_NEAR = 0.4  # of a gap: two wraps are never so near
_FEWEST_SEEN = 12  # data nodes that must see their neighbours before anything is judged
_ALIKE = 0.7  # cosine of the angle between neighbouring wraps
_FARTHEST = 3.0  # steps; how far data looks for its neighbours
_NOT_ITSELF = 3.0  # voxels; nearer is the sheet itself

DEEPEST = 6  # nodes from the rim that are hidden to see how far guesses are right
_LEAST_LEFT = 0.4  # share of the data that must remain to guess from
_ERRORS = 0.005  # share of guesses on another wrap: a per mille of all if a fifth is guessed
_CLOSE = 0.25  # of a gap; half a gap off is nearer to another wrap
_NARROWEST = 8.0  # voxels; distance of wraps where none was seen

UNSEEN, CONFIRMED, WRONG = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Witness:
    """The data of a sheet as what rays from other nodes of it meet.

    Attributes
    ----------
    data : Patches
        The nodes with data, row by row, as one patch.
    cells : QuadCells
        Index of its quads.
    winding : ndarray of float64, shape (n,)
        Windings of the nodes.
    normals : ndarray of float64, shape (n, 3)
        Unit normals d/dcol x d/drow; NaN where there is none.
    outward : int
        1 if they point to larger windings, -1 if to smaller ones.
    gap : ndarray of float64, shape (n,)
        Distance to the next wrap, voxels; NaN where none was seen.
    """

    data: Patches
    cells: QuadCells
    winding: NDArray[np.float64]
    normals: NDArray[np.float64]
    outward: int
    gap: NDArray[np.float64]

    @classmethod
    def of(cls, sheet: Sheet, is_data: NDArray[np.bool_]) -> "Witness | None":
        """Return what a sheet's data can testify.

        Parameters
        ----------
        sheet : Sheet
            The sheet.
        is_data : ndarray of bool, shape (rows, cols)
            Nodes that were measured.

        Returns
        -------
        Witness or None
            None where hardly any wrap sees its neighbour: a single turn, or data far apart.
        """
        from tracer.surface import Surface

        surface = Surface(
            points_xyz=np.where(is_data[..., None], sheet.points_xyz, 0.0).astype(np.float32),
            valid=is_data,
            scale=(1.0 / sheet.step, 1.0 / sheet.step),
        )
        data = Patches.from_surfaces([surface], ["data"])
        if not len(data.quads):
            return None
        alone = np.where(is_data[..., None], sheet.points_xyz, np.nan)
        found = cls(
            data=data,
            cells=QuadCells.build(data, 0.0),
            winding=sheet.winding[is_data],
            normals=sheet_normals(alone)[is_data],
            outward=1,
            gap=np.full(int(is_data.sum()), np.nan),
        )
        return found._measured(_FARTHEST * sheet.step)

    def _measured(self, farthest: float) -> "Witness | None":
        """Return the witness with its gaps and its outward side, None if it sees too little."""
        seen = [
            self.look(self.data.points_xyz, self.normals, self.winding, side, _NOT_ITSELF, farthest)
            for side in (1, -1)
        ]
        rise = np.stack([side * look.rise for side, look in zip((1, -1), seen, strict=True)])
        usable = np.stack([look.parallel > _ALIKE for look in seen]) & (np.abs(rise) == 1)
        if usable.sum() < _FEWEST_SEEN:
            return None
        outward = 1 if np.median(rise[usable]) > 0 else -1
        next_wrap = usable & (rise == outward)
        distance = np.where(next_wrap, np.stack([look.distance for look in seen]), 0.0)
        count = next_wrap.sum(axis=0)
        gap = np.where(count > 0, distance.sum(axis=0) / np.maximum(count, 1), np.nan)
        return dataclasses.replace(self, outward=outward, gap=gap)

    def look(
        self,
        points_xyz: NDArray[np.float32],
        normals: NDArray[np.float64],
        winding: NDArray[np.float64],
        side: int,
        nearest: float,
        farthest: float,
    ) -> "_Look":
        """Return what rays along the normals meet first.

        Parameters
        ----------
        points_xyz : ndarray of float32, shape (m, 3)
            Where they begin.
        normals : ndarray of float64, shape (m, 3)
            Unit normals there; NaN for no ray.
        winding : ndarray of float64, shape (m,)
            Windings there.
        side : int
            1 along the normals, -1 against them.
        nearest : float
            Distance from which on something counts, voxels.
        farthest : float
            Length of the rays, voxels.

        Returns
        -------
        _Look
            Rise of the winding, distance, and cosine between the normals.
        """
        some = np.flatnonzero(np.isfinite(normals[:, 0]))
        quad, distance = cast_to_next(
            self.data,
            self.cells,
            points_xyz[some],
            side * normals[some].astype(np.float32),
            nearest=nearest,
            farthest=farthest,
        )
        hit = quad >= 0
        some, quad, distance = some[hit], quad[hit], distance[hit]
        corners = self.data.quads[quad]
        rise = np.full(len(normals), np.nan)
        rise[some] = np.rint(self.winding[corners].mean(axis=1) - winding[some])
        far = np.full(len(normals), np.inf)
        far[some] = distance
        met = np.nan_to_num(self.normals[corners]).sum(axis=1)
        met /= np.linalg.norm(met, axis=1, keepdims=True) + 1e-9
        parallel = np.zeros(len(normals))
        parallel[some] = np.einsum("ij,ij->i", met, normals[some])
        return _Look(rise=rise, distance=far, parallel=parallel)

    def judge(
        self, sheet: Sheet, state: NDArray[np.uint8], asked: NDArray[np.bool_]
    ) -> NDArray[np.uint8]:
        """Return what the data says of filled nodes.

        Parameters
        ----------
        sheet : Sheet
            The sheet, its data where it was.
        state : ndarray of uint8, shape (rows, cols)
            100 on data, 80 filled, 0 none.
        asked : ndarray of bool, shape (rows, cols)
            Nodes to judge.

        Returns
        -------
        ndarray of uint8, shape (rows, cols)
            UNSEEN, CONFIRMED or WRONG.
        """
        gaps = np.full(state.shape, np.nan)
        gaps[state == DATA] = self.gap
        gaps = diffuse(np.nan_to_num(gaps), np.isfinite(gaps))[asked]
        points = sheet.points_xyz[asked].astype(np.float32)
        normals = sheet_normals(sheet.points_xyz)[asked]
        winding = sheet.winding[asked]
        farthest = _ONE_GAP[1] * float(gaps.max(initial=0.0))
        wrong, right = np.zeros(len(points), bool), np.zeros(len(points), bool)
        for side in (1, -1):
            look = self.look(points, normals, winding, side, 0.0, farthest)
            rise, ratio = look.rise * side * self.outward, look.distance / gaps
            near = ratio < _TOO_NEAR
            beside = ~near & (ratio <= _ONE_GAP[1])
            # what lies on the same wrap just here is the sheet itself, folded or doubled
            wrong |= (near & (rise != 0)) | (beside & (rise != 1))
            right |= beside & (ratio >= _ONE_GAP[0]) & (rise == 1) & (look.parallel > _ALIKE)
        verdict = np.zeros(state.shape, np.uint8)
        verdict[asked] = np.where(wrong, WRONG, np.where(right, CONFIRMED, UNSEEN))
        return verdict


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Look:
    """What some rays meet first; the rise is NaN and the distance infinite where nothing."""

    rise: NDArray[np.float64]
    distance: NDArray[np.float64]
    parallel: NDArray[np.float64]


def drop_unconfirmed(
    sheet: Sheet,
    state: NDArray[np.uint8],
    witness: Witness | None,
    reach: float = 0.0,
) -> tuple[Sheet, NDArray[np.uint8]]:
    """Return the sheet without filled nodes that nothing speaks for.

    Parameters
    ----------
    sheet : Sheet
        Filled.
    state : ndarray of uint8, shape (rows, cols)
        100 on data, 80 filled, 0 none.
    witness : Witness or None
        The sheet's data; None where it can say nothing.
    reach : float
        Nodes beyond the data that stay although nothing is seen from them.

    Returns
    -------
    sheet : Sheet
        Data and enclosed nodes, and those filled nodes that wraps beside them confirm and that
        hang together with data.
    state : ndarray of uint8, shape (rows, cols)
        Its state.
    """
    from scipy import ndimage

    filled, is_data = state == FILLED, state == DATA
    enclosed = filled & ndimage.binary_fill_holes(is_data)
    verdict = np.zeros(state.shape, np.uint8)
    if witness is not None:
        verdict = witness.judge(sheet, state, filled)
    keep = verdict == CONFIRMED
    blind = enclosed | (ndimage.distance_transform_edt(~is_data) <= reach)
    keep |= blind & (verdict != WRONG)
    keep = (keep & filled) | is_data
    parts, n_parts = ndimage.label(keep)
    anchored = np.zeros(n_parts + 1, bool)
    anchored[parts[is_data]] = True
    keep &= anchored[parts]
    kept = dataclasses.replace(
        sheet,
        points_xyz=np.where(keep[..., None], sheet.points_xyz, np.nan),
        winding=np.where(keep, sheet.winding, np.nan),
        confidence=np.where(keep, sheet.confidence, 0.0).astype(np.float32),
    )
    return kept, np.where(keep, state, 0).astype(np.uint8)


def proven_reach(
    sheet: Sheet,
    is_data: NDArray[np.bool_],
    witness: Witness | None,
    fill: Callable[[Sheet], Sheet],
) -> float:
    """Return how many nodes beyond the rim guesses are on the right wrap.

    Parameters
    ----------
    sheet : Sheet
        The sheet.
    is_data : ndarray of bool, shape (rows, cols)
        Nodes that were measured.
    witness : Witness or None
        The distances of wraps.
    fill : callable
        Returns a sheet with nodes beyond its rim guessed, on the same grid.

    Returns
    -------
    float
        0 where not even the first can be trusted, or where there is too little data to tell;
        infinity if they were right as deep as data could be hidden.

    Notes
    -----
    Data near the rim is hidden, guessed from the rest, and compared along its normals; sliding
    within the sheet is no error of the wrap.
    """
    from scipy import ndimage

    padded = np.pad(is_data, 1)
    inside = ndimage.distance_transform_edt(padded)[1:-1, 1:-1]
    for depth in range(DEEPEST, 0, -1):
        left = inside > depth
        if left.sum() >= _LEAST_LEFT * is_data.sum():
            break
    else:
        return 0
    hidden = is_data & ~left
    guessed = fill(
        dataclasses.replace(
            sheet,
            points_xyz=np.where(left[..., None], sheet.points_xyz, np.nan),
            winding=np.where(left, sheet.winding, np.nan),
        )
    )
    alone = np.where(is_data[..., None], sheet.points_xyz, np.nan)
    off = np.abs(np.einsum("ijk,ijk->ij", guessed.points_xyz - alone, sheet_normals(alone)))
    gaps = np.full(is_data.shape, _NARROWEST)
    if witness is not None:
        seen = np.full(is_data.shape, np.nan)
        seen[is_data] = witness.gap
        gaps = diffuse(np.nan_to_num(seen), np.isfinite(seen))
    compared = hidden & np.isfinite(off)
    far = ndimage.distance_transform_edt(~left)
    for reach in range(1, depth + 1):
        ring = compared & (far > reach - 1) & (far <= reach)
        # the first step counts double: the real rim is where growing was hard
        bad = off[ring] > (_CLOSE if reach == 1 else _TOO_NEAR) * gaps[ring]
        # expected share, every share being as likely before: few guesses prove little
        if (bad.sum() + 1) / (ring.sum() + 2) > _ERRORS:
            return reach - 1
    return math.inf
