"""Evidence about turns: statements ``whole[i] - whole[j] = shift`` between vertices.

Three kinds:

* touches between patches: the same place on the sheet; strongest;
* grid edges inside a patch: true unless the patch jumps there; weak where nothing else covers it;
* rays along the normal to the next sheet: one turn further, if it is about one gap away. They tell
  where a tail without touches belongs and how components that do not touch lie to each other.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.frames import Frames
from tracer.unroll.overlaps import Contacts, QuadCells, cast_to_next
from tracer.unroll.patches import Patches
from tracer.unroll.turns import whole_turns_between

_SAME_SIDE = 0.7  # cosine of the angle between the normals of two patches on the same sheet
_RAY_WEIGHT = 0.5  # of a touch: a missing wrap in between makes a ray lie
_EDGE_WEIGHT = (0.25, 0.5)  # of an edge: base, and per touch of its worse end
_EDGE_TOUCHES = 3  # touches beyond which an edge gains no more weight
_STEEP = 0.4  # sine of the angle between an edge and the sheet: curvature gives half of that
_RAY_STRIDE = 2  # every other row and column is enough to see gaps
_FEW_TOUCHES = 2  # vertices with fewer send rays both ways
_ONE_GAP = (0.6, 1.45)  # distance of the next sheet in gaps that means exactly one turn
_TOO_NEAR = 0.4  # of a gap
_NEXT_PARALLEL = 0.85  # cosine between neighbouring wraps: 32 degrees; a jump stands steeper
_LONGEST_RAY = 3.0  # steps
_RAY_FROM = 4.0  # voxels; nearer is the same sheet
_BESIDE = 0.9  # cosine between a sheet and the next one, where a ray cannot meet the same
_APART = 6.0  # voxels; patches of one sheet are never so far apart
_FEWEST_GAPS = 10  # rays from which a gap or the handedness is taken


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Equations:
    """Statements ``whole[i] - whole[j] = shift`` about vertices.

    Attributes
    ----------
    i : ndarray of int32, shape (k,)
        A vertex.
    j : ndarray of int32, shape (k,)
        Another vertex.
    shift : ndarray of int64, shape (k,)
        Difference of their whole turns.
    weight : ndarray of float64, shape (k,)
        How much it counts.
    """

    i: NDArray[np.int32]
    j: NDArray[np.int32]
    shift: NDArray[np.int64]
    weight: NDArray[np.float64]

    def select(self, keep: NDArray[np.bool_]) -> "Equations":
        """Return some of the equations.

        Parameters
        ----------
        keep : ndarray of bool, shape (k,)
            Which ones.

        Returns
        -------
        Equations
            In the same order.
        """
        return Equations(
            i=self.i[keep], j=self.j[keep], shift=self.shift[keep], weight=self.weight[keep]
        )


def touch_equations(
    patches: Patches, contacts: Contacts, frames: Frames, turns: NDArray[np.float64]
) -> Equations:
    """Return the touches between parallel patches.

    Parameters
    ----------
    patches : Patches
        The patches.
    contacts : Contacts
        Their overlaps.
    frames : Frames
        Frames of the vertices.
    turns : ndarray of float64, shape (n,)
        Azimuths.

    Returns
    -------
    Equations
        Between each vertex and the nearest corner of the quad that it lies on.
    """
    corners = contacts.corners(patches)
    near = np.where(contacts.s > 0.5, 1, 0) + np.where(contacts.t > 0.5, 2, 0)
    other = np.take_along_axis(corners, near[:, None], axis=1)[:, 0]
    i = contacts.vertex
    parallel = np.einsum("ij,ij->i", frames.n[i], frames.n[other]) > _SAME_SIDE
    i, other = i[parallel], other[parallel]
    weight = np.sqrt(patches.weights[patches.grid[i, 0]] * patches.weights[patches.grid[other, 0]])
    return Equations(
        i=i, j=other, shift=whole_turns_between(turns, i, other), weight=weight.astype(np.float64)
    )


def edge_equations(
    patches: Patches,
    support: NDArray[np.int64],
    steepness: NDArray[np.float64],
    turns: NDArray[np.float64],
) -> Equations:
    """Return the grid edges: the less covered by others and the steeper, the weaker.

    Parameters
    ----------
    patches : Patches
        The patches.
    support : ndarray of int64, shape (n,)
        Touches per vertex.
    steepness : ndarray of float64, shape (e,)
        How much each edge leaves the sheet.
    turns : ndarray of float64, shape (n,)
        Azimuths.

    Returns
    -------
    Equations
        In the order of the edges.
    """
    i, j = patches.edges.T
    base, gain = _EDGE_WEIGHT
    touches = np.minimum(np.minimum(support[i], support[j]), _EDGE_TOUCHES)
    weight = (base + gain * touches) * patches.weights[patches.grid[i, 0]]
    weight = weight / (1.0 + (steepness / _STEEP) ** 4)
    return Equations(i=i, j=j, shift=whole_turns_between(turns, i, j), weight=weight)


def edge_steepness(patches: Patches, touches: Equations, frames: Frames) -> NDArray[np.float64]:
    """Return how much each grid edge leaves the sheet that other patches see at its ends.

    Parameters
    ----------
    patches : Patches
        The patches.
    touches : Equations
        Touches between patches.
    frames : Frames
        Frames of the vertices.

    Returns
    -------
    ndarray of float64, shape (e,)
        Sine of the angle between the edge and the sheet, whose normal is that of the patches that
        touch either end (and the own one, which alone would follow the jump).
    """
    normal = frames.n.astype(np.float64)
    seen = 0.01 * normal
    for axis in range(3):
        seen[:, axis] += np.bincount(touches.i, normal[touches.j, axis], patches.n_vertices)
    seen /= np.linalg.norm(seen, axis=1, keepdims=True) + 1e-12
    i, j = patches.edges.T
    step = patches.points_xyz[j].astype(np.float64) - patches.points_xyz[i]
    step /= np.linalg.norm(step, axis=1, keepdims=True) + 1e-12
    either = [np.abs(np.einsum("ij,ij->i", step, seen[end])) for end in (i, j)]
    return np.asarray(np.maximum(either[0], either[1]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """What rays say, given the turns known so far.

    Attributes
    ----------
    equations : Equations
        One turn between sheets one gap apart.
    gap : float
        Usual distance of neighbouring wraps, voxels; NaN where no two were seen.
    handedness : int
        1 if the turns grow outward, else -1; 0 while unknown.
    wrong : ndarray of bool, shape (rays,)
        Rays that see within a gap what cannot be there if their vertex lies on its sheet: its own
        wrap, a wrap that is not the next, one that stands across or is much too near.
    """

    equations: Equations
    gap: float
    handedness: int
    wrong: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rays:
    """The next sheet seen along the normals of some vertices.

    Attributes
    ----------
    vertex : ndarray of int32, shape (k,)
        Where the ray begins.
    other : ndarray of int32, shape (k,)
        A vertex of the quad that it meets.
    side : ndarray of int64, shape (k,)
        1 outward, -1 inward.
    distance : ndarray of float32, shape (k,)
        Voxels.
    parallel : ndarray of float32, shape (k,)
        Cosine of the angle between the normals at both ends.
    """

    vertex: NDArray[np.int32]
    other: NDArray[np.int32]
    side: NDArray[np.int64]
    distance: NDArray[np.float32]
    parallel: NDArray[np.float32]

    @classmethod
    def cast(
        cls, patches: Patches, frames: Frames, cells: QuadCells, support: NDArray[np.int64]
    ) -> "Rays":
        """Return what a sample of all vertices, and every poorly covered one, sees.

        Parameters
        ----------
        patches : Patches
            The patches.
        frames : Frames
            Frames of the vertices.
        cells : QuadCells
            Index of the quads.
        support : ndarray of int64, shape (n,)
            Touches per vertex.

        Returns
        -------
        Rays
            Those that meet a sheet.
        """
        framed = (frames.n != 0).any(axis=1)
        sampled = (patches.grid[:, 1:] % _RAY_STRIDE == 0).all(axis=1)
        poor = support < _FEW_TOUCHES
        out = np.flatnonzero(framed & (sampled | poor))
        into = np.flatnonzero(framed & poor)
        vertex = np.concatenate([out, into]).astype(np.int32)
        side = np.repeat(np.array([1, -1]), [len(out), len(into)])
        quad, distance = cast_to_next(
            patches,
            cells,
            patches.points_xyz[vertex],
            frames.n[vertex] * side[:, None].astype(np.float32),
            nearest=_RAY_FROM,
            farthest=_LONGEST_RAY * patches.step,
        )
        hit = quad >= 0
        vertex, side, distance = vertex[hit], side[hit], distance[hit]
        other = patches.quads[quad[hit], 0]
        parallel = np.einsum("ij,ij->i", frames.n[vertex], frames.n[other])
        return cls(vertex=vertex, other=other, side=side, distance=distance, parallel=parallel)

    def judge(
        self,
        patches: Patches,
        turns: NDArray[np.float64],
        total: NDArray[np.int64],
        component: NDArray[np.int64],
    ) -> Judged:
        """Return the equations that the rays give, with gaps measured between known wraps.

        Parameters
        ----------
        patches : Patches
            The patches.
        turns : ndarray of float64, shape (n,)
            Azimuths.
        total : ndarray of int64, shape (n,)
            Whole turns known so far.
        component : ndarray of int64, shape (n,)
            Within which they are comparable.

        Returns
        -------
        Judged
            Equations, gap and handedness.
        """
        around = whole_turns_between(turns, self.other, self.vertex)
        risen = (total[self.other] - total[self.vertex] - around) * self.side
        known = component[self.other] == component[self.vertex]
        known &= self.parallel > _SAME_SIDE
        votes = np.sign(risen[known & (np.abs(risen) == 1)]).sum()
        handedness = int(np.sign(votes))
        next_wrap = known & (risen == handedness)
        if handedness == 0 or next_wrap.sum() < _FEWEST_GAPS:
            none = np.zeros(len(self.vertex), bool)
            return Judged(
                equations=self._equations(none, around),
                gap=float("nan"),
                handedness=0,
                wrong=none,
            )
        gap = float(np.median(self.distance[next_wrap]))
        ratio = self.distance / self._local_gaps(patches, next_wrap, gap)[self.vertex]
        usable = (ratio >= _ONE_GAP[0]) & (ratio <= _ONE_GAP[1]) & (self.parallel > _SAME_SIDE)
        equations = self._equations(usable, around + handedness * self.side)
        together = component[self.other] == component[self.vertex]
        wrong = (ratio <= _ONE_GAP[1]) & together
        wrong &= (risen != handedness) | (self.parallel < _NEXT_PARALLEL) | (ratio < _TOO_NEAR)
        return Judged(equations=equations, gap=gap, handedness=handedness, wrong=wrong)

    def impossible(
        self,
        turns: NDArray[np.float64],
        total: NDArray[np.int64],
        component: NDArray[np.int64],
        handedness: int,
    ) -> NDArray[np.bool_]:
        """Return which rays meet their own wrap, or one further in, where the next must be.

        Parameters
        ----------
        turns : ndarray of float64, shape (n,)
            Azimuths.
        total : ndarray of int64, shape (n,)
            Whole turns known so far.
        component : ndarray of int64, shape (n,)
            Within which they are comparable.
        handedness : int
            1 if the turns grow outward, else -1; 0 while unknown.

        Returns
        -------
        ndarray of bool, shape (rays,)
            Rays between parallel sheets that are apart; in a fold sheets stand across.
        """
        around = whole_turns_between(turns, self.other, self.vertex)
        risen = (total[self.other] - total[self.vertex] - around) * self.side
        met = (risen == 0) if handedness == 0 else (risen * handedness <= 0)
        met &= (component[self.other] == component[self.vertex]) & (self.parallel > _BESIDE)
        return np.asarray(met & (self.distance > _APART))

    def _equations(self, usable: NDArray[np.bool_], shift: NDArray[np.int64]) -> Equations:
        return Equations(
            i=self.other[usable],
            j=self.vertex[usable],
            shift=shift[usable],
            weight=np.full(int(usable.sum()), _RAY_WEIGHT),
        )

    def _local_gaps(
        self, patches: Patches, next_wrap: NDArray[np.bool_], usual: float
    ) -> NDArray[np.float64]:
        """Return the gap at every vertex: the median of its patch, drawn towards the usual one."""
        patch = patches.grid[self.vertex[next_wrap], 0]
        distance = self.distance[next_wrap]
        order = np.lexsort((distance, patch))
        patch, distance = patch[order], distance[order]
        gaps = np.full(len(patches.names), usual)
        names, first, count = np.unique(patch, return_index=True, return_counts=True)
        enough = count >= _FEWEST_GAPS
        gaps[names[enough]] = distance[(first + count // 2)[enough]]
        return gaps[patches.grid[:, 0]]
