"""Slabs solved one after the other, each continuing the ones below.

Neighbouring slabs overlap. What lies in both is recognised vertex by vertex: it says which
component of the next slab continues which one of the last, by how many turns their windings differ,
and where the plane of the next slab has to lie. What stays of a slab are its surface, its suspects,
and the coordinates of its upper overlap.
"""

import dataclasses
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.errors import CollectionError
from tracer.progress import silent
from tracer.unroll.axis import Axis
from tracer.unroll.data_pass import PredictionVolume
from tracer.unroll.findings import Findings, draw_suspects
from tracer.unroll.layout import Layout
from tracer.unroll.params import UnrollParams
from tracer.unroll.patches import Patches, load_patches
from tracer.unroll.plane import Pins, flatten
from tracer.unroll.resample import resample
from tracer.unroll.slab_findings import SlabFindings
from tracer.unroll.slab_plan import Extents
from tracer.unroll.stage import Finisher, Solved, Unrolled, UnrollResult, solve
from tracer.unroll.stitch import Frame, Groups, Piece, light, merge_pieces

_FEWEST_SHARED = 12  # vertices by which a component is recognised
_AGREE = 0.25  # turns


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Known:
    """Vertices that were laid out before: what they are called, or which of a slab they are."""

    vertex: NDArray[np.int64]
    group: NDArray[np.int64]
    winding: NDArray[np.float64]
    uv: NDArray[np.float64]

    @classmethod
    def none(cls) -> "_Known":
        whole = np.empty(0, np.int64)
        return cls(vertex=whole, group=whole, winding=np.empty(0), uv=np.empty((0, 2)))


class SlabSolver:
    """Slabs solved one after the other, from the lowest up.

    Parameters
    ----------
    extents : Extents
        The patches.
    slabs : list of tuple of float
        See :func:`tracer.unroll.slab_plan.plan_slabs`.
    params : UnrollParams
        Parameters.
    axis : Axis
        The scroll's axis: one for all slabs.

    Attributes
    ----------
    n_slabs : int
        How many there are.
    groups : Groups
        Groups of components, so far.
    group_of : ndarray of int64, shape (components,)
        Group of each component of the slab that was solved last.
    """

    def __init__(
        self,
        extents: Extents,
        slabs: list[tuple[float, float]],
        params: UnrollParams,
        axis: Axis,
    ) -> None:
        self.n_slabs = len(slabs)
        self._extents, self._slabs, self._params, self._axis = extents, slabs, params, axis
        self._number_of = {path.name: index for index, path in enumerate(extents.directories)}
        self.groups = Groups()
        self._below = _Known.none()
        self._handedness = 0
        self.group_of: NDArray[np.int64] = np.empty(0, np.int64)
        self._bridges: list[tuple[int, int, int]] = []
        self._pieces: list[Piece] = []
        self._findings = SlabFindings()

    def solve_slab(
        self,
        number: int,
        prediction: PredictionVolume | None,
        *,
        pictures: bool,
        surfaces: bool = True,
    ) -> Solved:
        """Solve one slab and keep what is needed of it.

        Parameters
        ----------
        number : int
            Which one; all below are done.
        prediction : PredictionVolume or None
            Drawn under the pictures.
        pictures : bool
            Draw suspects.
        surfaces : bool
            Keep its surfaces.

        Returns
        -------
        Solved
            The slab.
        """
        low, high = self._slabs[number]
        chosen = [self._extents.directories[i] for i in self._extents.within(low, high)]
        patches = load_patches(chosen, z_range=(low, high))
        shared = self._shared(patches)
        solved = solve(
            patches,
            self._params,
            axis=self._axis,
            align=lambda layout: self._align(layout, shared),
        )
        solved = self._bridge(solved, shared)
        components = self._resampled(solved, self._ramps(number)) if surfaces else ()
        self._findings.add(
            solved,
            components,
            self.group_of,
            self.core(number),
            lambda suspects: draw_suspects(
                suspects, solved, prediction, self._params.threshold, pictures=pictures
            ),
        )
        self._remember(solved, number)
        return solved

    def _ramps(self, number: int) -> tuple[float, float, float, float]:
        """Return where a slab begins, its lower overlap ends, its upper begins, and it ends."""
        low, high = self._slabs[number]
        below = self._slabs[number - 1][1] if number else low
        above = self._slabs[number + 1][0] if number + 1 < len(self._slabs) else high
        return low, below, above, high

    def core(self, number: int) -> tuple[float, float]:
        """Return the part of a slab for whose figures it answers: up to the middle of overlaps.

        Parameters
        ----------
        number : int
            Which slab.

        Returns
        -------
        tuple of float
            Lowest and highest z, voxels.
        """
        bottom, low, high, top = self._ramps(number)
        return 0.5 * (bottom + low), 0.5 * (high + top)

    def _shared(self, patches: Patches) -> _Known:
        """Return what the slabs below say of the vertices of this one, in the frames of roots."""
        below, keys = self._below, self._keys(patches)
        if not len(below.vertex):
            return _Known.none()
        at = np.minimum(np.searchsorted(below.vertex, keys), len(below.vertex) - 1)
        vertex = np.flatnonzero(below.vertex[at] == keys)
        at = at[vertex]
        root, turns, shift = self.groups.towards_roots(below.group[at])
        return _Known(
            vertex=vertex, group=root, winding=below.winding[at] + turns, uv=below.uv[at] + shift
        )

    def _keys(self, patches: Patches) -> NDArray[np.int64]:
        """Return a number for each vertex that is the same in every slab."""
        owner = np.array([self._number_of[name] for name in patches.names], np.int64)
        patch, row, col = patches.grid.astype(np.int64).T
        return np.asarray((owner[patch] << 40) | (row << 20) | col)

    def _align(self, layout: Layout, shared: _Known) -> tuple[Layout, Pins | None]:
        """Return the layout with the windings of the slabs below, and what holds its plane."""
        if self._handedness and layout.handedness != self._handedness:
            layout = dataclasses.replace(
                layout, winding=-layout.winding, handedness=self._handedness
            )
        self._handedness = layout.handedness
        component = layout.component[shared.vertex]
        rise = np.zeros(layout.n_components, np.int64)
        self.group_of = np.empty(layout.n_components, np.int64)
        self._bridges = []
        for number in range(layout.n_components):
            of_it = component == number
            turns = np.round(shared.winding - layout.winding[shared.vertex])[of_it]
            votes = _votes(shared.group[of_it], turns)
            if not votes:
                self.group_of[number] = self.groups.add()
                continue
            self.group_of[number], rise[number] = votes[0]
            self._bridges += [
                (number, group, int(rise[number]) - turn)
                for group, turn in votes[1:]
                if group != votes[0][0]
            ]
        winding = layout.winding + np.where(layout.component >= 0, rise[layout.component], 0)
        layout = dataclasses.replace(layout, winding=winding)
        return layout, self._pins(layout, shared)

    def _pins(self, layout: Layout, shared: _Known) -> Pins | None:
        """Return the shared vertices on which both slabs agree."""
        component = layout.component[shared.vertex]
        agree = (component >= 0) & (self.group_of[component] == shared.group)
        agree &= np.abs(layout.winding[shared.vertex] - shared.winding) < _AGREE
        if not agree.any():
            return None
        return Pins(vertex=shared.vertex[agree], uv=shared.uv[agree])

    def _bridge(self, solved: Solved, shared: _Known) -> Solved:
        """Join groups that this slab shows to be one, and lay its plane out over all of them."""
        layout = solved.layout
        component = layout.component[shared.vertex]
        joined = False
        for number, group, turns in self._bridges:
            root, _ = self.groups.find(int(self.group_of[number]))
            other, _ = self.groups.find(group)
            mine = (component == number) & (shared.group == group)
            rise = layout.winding[shared.vertex] - shared.winding
            mine &= np.abs(rise - turns) < _AGREE
            if root == other or not mine.any():
                continue
            moved = np.median(solved.plane.uv[shared.vertex[mine]] - shared.uv[mine], axis=0)
            u, v = (np.round(moved / self._params.step) * self._params.step).tolist()
            self.groups.join(int(self.group_of[number]), group, Frame(turns, u, v))
            joined = True
        if not joined:
            return solved
        root_of, rises, shifts = self.groups.towards_roots(self.group_of)
        inside = np.flatnonzero(layout.component >= 0)
        winding, start = layout.winding.copy(), solved.plane.uv.copy()
        winding[inside] += rises[layout.component[inside]]
        start[inside] += shifts[layout.component[inside]]
        self.group_of = root_of
        layout = dataclasses.replace(layout, winding=winding)
        plane = flatten(
            solved.patches,
            solved.contacts,
            solved.frames,
            self._axis,
            layout,
            start=start,
            pins=self._pins(layout, self._shared(solved.patches)),
        )
        return dataclasses.replace(solved, layout=layout, plane=plane)

    def _resampled(
        self, solved: Solved, ramps: tuple[float, float, float, float]
    ) -> tuple[Unrolled, ...]:
        """Return the surfaces of the components that are worth one, and keep them."""
        layout = solved.layout
        sizes = np.bincount(layout.component[layout.component >= 0], minlength=1)
        smallest = max(self._params.min_component * sizes.sum(), 4)
        components = []
        for number in np.flatnonzero(sizes >= smallest).tolist():
            sheet = resample(
                solved.patches, layout, solved.plane, number, self._params.step, beyond=True
            )
            if sheet.valid.any():
                group = int(self.group_of[number])
                self._pieces.append(Piece(group=group, sheet=light(sheet), z_ramps=ramps))
                state = np.zeros(sheet.valid.shape, np.uint8)
                components.append(
                    Unrolled(number=number, sheet=sheet, state=state, n_vertices=sizes[number])
                )
        return tuple(components)

    def _remember(self, solved: Solved, number: int) -> None:
        """Keep the coordinates of the overlap with the next slab."""
        self._below = _Known.none()
        if number + 1 < len(self._slabs):
            layout = solved.layout
            inside = solved.patches.points_xyz[:, 2] >= self._slabs[number + 1][0]
            kept = np.flatnonzero(inside & (layout.component >= 0))
            keys = self._keys(solved.patches)[kept]
            order = np.argsort(keys)
            kept = kept[order]
            self._below = _Known(
                vertex=keys[order],
                group=self.group_of[layout.component[kept]],
                winding=layout.winding[kept],
                uv=solved.plane.uv[kept],
            )

    def result(self, prediction: PredictionVolume | None) -> UnrollResult:
        """Return the surfaces of all slabs put together and finished.

        Parameters
        ----------
        prediction : PredictionVolume or None
            Surface prediction that they are pulled to.

        Returns
        -------
        UnrollResult
            Surfaces and findings.

        Raises
        ------
        CollectionError
            If no slab has a surface.
        """
        if not self._pieces:
            raise CollectionError(
                "the patches have no area once jumps are cut out; grow larger ones with "
                "`tracer expand`"
            )
        root_of = self._roots()[0]
        sizes = self._findings.sizes(root_of)
        finish = Finisher(self._params, prediction, self.gap, silent)
        smallest = max(self._params.min_component * sum(sizes.values()), 4)
        components = []
        for number, (root, size) in enumerate(sizes.items()):
            pieces = [piece for piece in self._pieces if root_of[piece.group] == root]
            if pieces and size >= smallest:
                components.append(finish(merge_pieces(pieces, self.groups), number, size))
        return UnrollResult(
            axis=self._axis,
            components=tuple(components),
            left_out=len(sizes) - len(components),
            layout_counts=self._findings.layout_counts(len(sizes)),
            found=self.findings(),
        )

    @property
    def gap(self) -> float:
        """Return the usual distance of neighbouring wraps, of the slabs so far.

        Returns
        -------
        float
            Voxels; NaN where no slab saw two.
        """
        return self._findings.gap

    def findings(self) -> Findings:
        """Return what all slabs say of their patches.

        Returns
        -------
        Findings
            Suspects, worst first within each kind.
        """
        return self._findings.all(*self._roots())

    def _roots(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the root of every group, and what is added to U and V to get there."""
        root_of, _, shifts = self.groups.towards_roots(np.arange(len(self.groups.parents)))
        return root_of, shifts


def _votes(groups: NDArray[np.int64], turns: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the groups and turns that enough vertices vote for, most votes first."""
    counted = Counter(zip(groups.tolist(), turns.astype(np.int64).tolist(), strict=True))
    best = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return [vote for vote, count in best if count >= _FEWEST_SHARED]
