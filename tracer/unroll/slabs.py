"""A whole collection in bounded memory: at once where it fits, else slab by slab along z."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tracer.progress import Progress, silent
from tracer.unroll.axis import Axis, estimate_axis
from tracer.unroll.data_pass import PredictionVolume
from tracer.unroll.findings import Findings, find_all
from tracer.unroll.frames import patch_normals
from tracer.unroll.params import UnrollParams
from tracer.unroll.patches import load_patches
from tracer.unroll.slab_plan import Extents, plan_slabs
from tracer.unroll.slab_solver import SlabSolver
from tracer.unroll.stage import UnrollResult, solve, unroll
from tracer.unroll.suspects import mask_offending

BYTES_PER_VERTEX = 3200.0  # peak of a solve, measured by benchmarks.bench_unroll


def unroll_collection(
    directories: Sequence[Path],
    params: UnrollParams,
    *,
    axis: Axis | None = None,
    prediction: PredictionVolume | None = None,
    pictures: bool = True,
    progress: Progress = silent,
) -> UnrollResult:
    """Return every patch of a collection fused into flat surfaces, in bounded memory.

    Parameters
    ----------
    directories : sequence of Path
        Surface directories.
    params : UnrollParams
        Parameters; ``memory_gb`` decides whether everything is solved at once or in slabs.
    axis : Axis, optional
        The scroll's axis; estimated from the patches where omitted.
    prediction : PredictionVolume, optional
        Surface prediction that the result is pulled to.
    pictures : bool
        Draw suspects.
    progress : Progress
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
    solver = slab_solver(directories, params, axis)
    if solver is None:
        patches = load_patches(directories)
        return unroll(patches, params, axis=axis, prediction=prediction, progress=progress)
    n = solver.n_slabs
    for number in range(n):
        progress(number, n + 1, f"slab {number + 1} of {n}")
        solver.solve_slab(number, prediction, pictures=pictures)
    result = solver.result(prediction)
    progress(n + 1, n + 1, "done")
    return result


def suspects_of_collection(
    directories: Sequence[Path],
    params: UnrollParams,
    *,
    axis: Axis | None = None,
    prediction: PredictionVolume | None = None,
    pictures: bool = True,
    mask: bool = False,
    progress: Progress = silent,
) -> tuple[Findings, dict[str, int]]:
    """Return what does not fit in a collection, without a surface, in bounded memory.

    Parameters
    ----------
    directories : sequence of Path
        Surface directories, of one folder.
    params : UnrollParams
        Parameters.
    axis : Axis, optional
        The scroll's axis; estimated from the patches where omitted.
    prediction : PredictionVolume, optional
        Drawn under the pictures.
    pictures : bool
        Draw suspects.
    mask : bool
        Mask the offending cells on disk; in slabs each masks its own.
    progress : Progress
        Called after each step.

    Returns
    -------
    found : Findings
        Suspects and members.
    masked : dict of str to int
        Vertices newly masked, per patch that changed.

    Raises
    ------
    CollectionError
        If no patch has a single quad.
    """
    solver = slab_solver(directories, params, axis)
    if solver is None:
        solved = solve(load_patches(directories), params, axis=axis, progress=progress)
        found = find_all(
            solved, prediction=prediction, threshold=params.threshold, pictures=pictures
        )
        return found, mask_offending(solved, directories[0].parent) if mask else {}
    masked: Counter[str] = Counter()
    for number in range(solver.n_slabs):
        progress(number, solver.n_slabs, f"slab {number + 1} of {solver.n_slabs}")
        solved = solver.solve_slab(number, prediction, pictures=pictures, surfaces=False)
        if mask:
            core = solver.core(number)
            masked.update(mask_offending(solved, directories[0].parent, z_range=core))
    return solver.findings(), dict(masked)


def slab_solver(
    directories: Sequence[Path], params: UnrollParams, axis: Axis | None = None
) -> SlabSolver | None:
    """Return what solves a collection in slabs; None where it fits into memory at once.

    Parameters
    ----------
    directories : sequence of Path
        Surface directories.
    params : UnrollParams
        Parameters.
    axis : Axis, optional
        The scroll's axis; estimated from the patches where omitted.

    Returns
    -------
    SlabSolver or None
        Before its first slab.
    """
    extents = Extents.read(directories)
    most = params.memory_gb * 1e9 / BYTES_PER_VERTEX
    slabs = plan_slabs(extents, most)
    if len(slabs) == 1:
        return None
    return SlabSolver(extents, slabs, params, axis or _axis_of_sample(extents, most))


def _axis_of_sample(extents: Extents, most_vertices: float) -> Axis:
    """Return the axis estimated from as many patches as fit into memory, evenly chosen."""
    stride = int(np.ceil(extents.vertices.sum() / most_vertices))
    patches = load_patches(extents.directories[::stride])
    return estimate_axis(patches.points_xyz, patch_normals(patches))
