"""The stage: patches in, one flat surface per component out, with all that was found on the way."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracer.errors import CollectionError
from tracer.progress import Progress, silent
from tracer.unroll.axis import Axis, estimate_axis
from tracer.unroll.complete import Completion
from tracer.unroll.data_pass import PredictionVolume, safe_reach
from tracer.unroll.frames import Frames, build_frames, orientation_signs, patch_normals
from tracer.unroll.inpaint import DATA, FILLED
from tracer.unroll.layout import Layout, lay_out
from tracer.unroll.overlaps import Contacts, QuadCells, overlap_pairs
from tracer.unroll.params import UnrollParams
from tracer.unroll.patches import Patches
from tracer.unroll.plane import Pins, Plane, flatten
from tracer.unroll.resample import resample
from tracer.unroll.sheet import Sheet

if TYPE_CHECKING:
    from tracer.distance_field import DistanceField
    from tracer.unroll.findings import Findings

_STEPS = ("overlaps", "turns", "plane", "surface", "holes", "prediction", "end")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unrolled:
    """One component of the collection, laid out flat.

    Attributes
    ----------
    number : int
        0 for the largest.
    sheet : Sheet
        The surface, holes filled.
    state : ndarray of uint8, shape (rows, cols)
        100 on data, 80 filled, 0 none.
    n_vertices : int
        Vertices of patches that it is made of.
    """

    number: int
    sheet: Sheet
    state: NDArray[np.uint8]
    n_vertices: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solved:
    """All patches laid out, before anything is resampled.

    Attributes
    ----------
    patches : Patches
        The patches.
    contacts : Contacts
        Their overlaps.
    axis : Axis
        Given or estimated.
    frames : Frames
        Frames of the vertices.
    layout : Layout
        Windings, components, cuts.
    plane : Plane
        Unrolled coordinates.
    """

    patches: Patches
    contacts: Contacts
    axis: Axis
    frames: Frames
    layout: Layout
    plane: Plane


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnrollResult:
    """What the unrolling found.

    Attributes
    ----------
    axis : Axis
        Given or estimated.
    components : tuple of Unrolled
        Flat surfaces, largest first.
    left_out : int
        Components too small to be worth a surface.
    layout_counts : dict
        Figures of the layout.
    solved : Solved or None
        Patches and their layout; None where they were solved slab by slab.
    found : Findings or None
        What is known of the patches; None where it still has to be found out from the layout.
    """

    axis: Axis
    components: tuple[Unrolled, ...]
    left_out: int
    layout_counts: dict[str, int | float | None]
    solved: Solved | None = None
    found: "Findings | None" = None

    def solved_patches(self) -> Solved:
        """Return the patches and their layout.

        Returns
        -------
        Solved
            Of all patches.
        """
        assert self.solved is not None
        return self.solved

    def counts(self) -> dict[str, int | float | None]:
        """Return the figures of the run.

        Returns
        -------
        dict
            JSON-serialisable.
        """
        states = [unrolled.state for unrolled in self.components]
        return {
            **self.layout_counts,
            "components_left_out": self.left_out,
            "nodes_data": sum(int((state == DATA).sum()) for state in states),
            "nodes_filled": sum(int((state == FILLED).sum()) for state in states),
        }

    def summary(self) -> str:
        """Return the main figures in a few lines.

        Returns
        -------
        str
            Text for a person.
        """
        count = self.counts()
        turns = [float(np.ptp(c.sheet.winding[c.state > 0])) for c in self.components]
        text = (
            f"{count['patches']} patches, {count['vertices']} vertices, {count['touches']} "
            f"touches: {count['components']} components, {max(turns, default=0.0):.1f} turns in "
            "the largest\n"
            f"{count['patches_cut']} patches cut at jumps, {count['vertices_taken_out']} vertices "
            f"taken out, {count['touches_contradicting']} touches still contradict\n"
            f"{count['nodes_data']} nodes on patches, {count['nodes_filled']} filled in; "
            f"misfit in the plane {count['residual_median']} voxels (median)"
        )
        if len(self.components) > 1 or self.left_out:
            text += (
                f"\n{len(self.components)} separate surfaces; {self.left_out} groups too small "
                "for one (they touch no others: see suspects.json)"
            )
        return text


def layout_counts(solved: Solved) -> dict[str, int | float | None]:
    """Return the figures of a layout.

    Parameters
    ----------
    solved : Solved
        Patches laid out.

    Returns
    -------
    dict
        JSON-serialisable.
    """
    patches, layout, plane = solved.patches, solved.layout, solved.plane
    return {
        "patches": len(patches.names),
        "vertices": patches.n_vertices,
        "touches": len(solved.contacts),
        "components": layout.n_components,
        "patches_cut": len(np.unique(patches.grid[patches.edges[layout.cut, 0], 0])),
        "edges_cut": int(layout.cut.sum()),
        "vertices_taken_out": int((layout.component < 0).sum()),
        "touches_contradicting": int(layout.disagreeing.sum()),
        "wrap_gap": None if np.isnan(layout.gap) else round(layout.gap, 3),
        "residual_median": round(plane.residual_median, 4),
        "residual_p99": round(plane.residual_p99, 4),
    }


def solve(
    patches: Patches,
    params: UnrollParams,
    *,
    axis: Axis | None = None,
    align: Callable[[Layout], tuple[Layout, Pins | None]] | None = None,
    progress: Progress = silent,
) -> Solved:
    """Return all patches laid out in one plane.

    Parameters
    ----------
    patches : Patches
        The patches.
    params : UnrollParams
        Parameters.
    axis : Axis, optional
        The scroll's axis; estimated from the patches where omitted.
    align : callable, optional
        Returns the layout and the coordinates of vertices that agree with what is known already.
    progress : Progress
        Called after each step.

    Returns
    -------
    Solved
        Windings, cuts and unrolled coordinates.

    Raises
    ------
    CollectionError
        If no patch has a single quad.
    """
    if not len(patches.quads):
        raise CollectionError(
            "no patch has four neighbouring valid vertices; there is no surface to unroll"
        )
    cells = QuadCells.build(patches, params.same_surface_th)
    contacts = overlap_pairs(patches, cells, params.same_surface_th)
    progress(1, len(_STEPS), _STEPS[0])
    normals = patch_normals(patches)
    if axis is None:
        axis = estimate_axis(patches.points_xyz, normals)
    signs = orientation_signs(patches, contacts, normals, axis)
    frames = build_frames(normals, signs[patches.grid[:, 0]])
    layout = lay_out(patches, contacts, frames, axis, cells)
    layout, pins = align(layout) if align is not None else (layout, None)
    progress(2, len(_STEPS), _STEPS[1])
    plane = flatten(patches, contacts, frames, axis, layout, pins=pins)
    progress(3, len(_STEPS), _STEPS[2])
    return Solved(
        patches=patches, contacts=contacts, axis=axis, frames=frames, layout=layout, plane=plane
    )


def unroll(
    patches: Patches,
    params: UnrollParams,
    *,
    axis: Axis | None = None,
    prediction: PredictionVolume | None = None,
    progress: Progress | None = None,
) -> UnrollResult:
    """Return every patch of a collection fused into flat surfaces.

    Parameters
    ----------
    patches : Patches
        The patches.
    params : UnrollParams
        Parameters.
    axis : Axis, optional
        The scroll's axis; estimated from the patches where omitted.
    prediction : PredictionVolume, optional
        Surface prediction that the result is pulled to.
    progress : Progress, optional
        Called after each step.

    Returns
    -------
    UnrollResult
        Surfaces and findings.

    Raises
    ------
    CollectionError
        If there is nothing to unroll.
    """
    report = progress or silent
    solved = solve(patches, params, axis=axis, progress=report)
    layout = solved.layout
    sizes = np.bincount(layout.component[layout.component >= 0], minlength=1)
    smallest = max(params.min_component * sizes.sum(), 4)
    finish = Finisher(params, prediction, layout.gap, report)
    components, left_out = [], 0
    for number, size in enumerate(sizes.tolist()):
        sheet = (
            resample(patches, layout, solved.plane, number, params.step, beyond=True)
            if (size >= smallest)
            else None
        )
        if sheet is None or not sheet.valid.any():
            left_out += size > 0
            continue
        components.append(finish(sheet, number, size))
    if not components:
        raise CollectionError(
            "the patches have no area once jumps are cut out; grow larger ones with `tracer expand`"
        )
    report(len(_STEPS), len(_STEPS), "done")
    return UnrollResult(
        axis=solved.axis,
        components=tuple(components),
        left_out=left_out,
        layout_counts=layout_counts(solved),
        solved=solved,
    )


class Finisher:
    """What is done to a surface once it is resampled: holes, prediction, ends.

    Parameters
    ----------
    params : UnrollParams
        Parameters.
    prediction : PredictionVolume or None
        Surface prediction that the result is pulled to.
    gap : float
        Usual distance of neighbouring wraps, voxels; NaN where unknown.
    report : Progress
        Called after each step.
    """

    def __init__(
        self,
        params: UnrollParams,
        prediction: PredictionVolume | None,
        gap: float,
        report: Progress,
    ) -> None:
        self._params, self._report = params, report
        reach = safe_reach(params.reach, gap)
        self._complete = Completion(params=params, reach=reach, prediction=prediction)
        self._field = _field(prediction, params) if params.joint_iterations else None

    def __call__(self, sheet: Sheet, number: int, n_vertices: int) -> Unrolled:
        """Return a component with its holes filled, on the prediction.

        Parameters
        ----------
        sheet : Sheet
            Its surface as resampled.
        number : int
            0 for the largest.
        n_vertices : int
            Vertices of patches that it is made of.

        Returns
        -------
        Unrolled
            Ready to be written.
        """
        params, report = self._params, self._report
        report(4, len(_STEPS), _STEPS[3])
        sheet, state = self._complete(sheet, lambda *_: report(5, len(_STEPS), _STEPS[4]))
        if self._field is not None:
            report(6, len(_STEPS), _STEPS[5])
            sheet = _optimised(sheet, state, self._field, params)
        sheet, state = _above_zero(sheet, state)
        return Unrolled(number=number, sheet=sheet, state=state, n_vertices=n_vertices)


def _field(prediction: PredictionVolume | None, params: UnrollParams) -> "DistanceField | None":
    """Return the distance field of a prediction on disk."""
    from tracer.distance_field import DistanceField
    from tracer.volume import Volume

    if not isinstance(prediction, Volume):
        return None
    return DistanceField(prediction, params.threshold)


def _optimised(
    sheet: Sheet, state: NDArray[np.uint8], field: "DistanceField", params: UnrollParams
) -> Sheet:
    """Return the sheet after the pass in which all nodes of a window move together."""
    from tracer.unroll.joint_pass import optimise_sheet

    points = optimise_sheet(
        sheet.points_xyz,
        state,
        sheet.confidence,
        field,
        params.step,
        iterations=params.joint_iterations,
    )
    return dataclasses.replace(sheet, points_xyz=points)


def _above_zero(sheet: Sheet, state: NDArray[np.uint8]) -> tuple[Sheet, NDArray[np.uint8]]:
    """Return the sheet without nodes at z <= 0, which every reader of a surface takes for none."""
    there = (state > 0) & (np.nan_to_num(sheet.points_xyz[..., 2]) > 0)
    cleaned = dataclasses.replace(
        sheet,
        points_xyz=np.where(there[..., None], sheet.points_xyz, np.nan),
        winding=np.where(there, sheet.winding, np.nan),
        confidence=np.where(there, sheet.confidence, 0.0).astype(np.float32),
    )
    return cleaned, np.where(there, state, 0).astype(np.uint8)
