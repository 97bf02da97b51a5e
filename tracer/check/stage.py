"""Check surfaces one by one, and a collection as a whole."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer.check import measures
from tracer.check.params import CheckParams
from tracer.check.report import FAIL, WARN, Checked, Problem, Report
from tracer.errors import NothingFoundError, TracerError
from tracer.progress import Progress, silent
from tracer.workers import run_tasks

if TYPE_CHECKING:
    from tracer.distance_field import DistanceField
    from tracer.surface import Surface
    from tracer.unroll.suspects import Suspect

_MOST_CELLS = 64  # of one problem that are kept for pictures and JSON
_SUSPECT_KINDS = ("jump", "minority")  # of unroll's suspects: a patch's own fault for sure
_HOLES_WORTH_A_WORD = 0.02  # of the cells; most patches have a pin-hole
_NEIGHBOURHOOD = 128.0  # voxels; surfaces with their middles in the same cube are neighbours
_FIELD_BYTES = 5e8  # of distances that are kept from surface to surface, in each worker
_FEWEST_TAIL = 4  # vertices between sheets that are worth a word


@dataclass(frozen=True, slots=True)
class _Task:
    """What a worker needs to check one surface."""

    path: Path
    params: CheckParams
    prediction: str | None
    identity: str
    ct: str | None


def check(
    paths: Sequence[Path],
    params: CheckParams,
    *,
    prediction: str | None = None,
    ct: str | None = None,
    together: bool = True,
    workers: int = 1,
    progress: Progress = silent,
) -> Report:
    """Return what is wrong with surfaces.

    Parameters
    ----------
    paths : sequence of Path
        Surfaces and folders of surfaces.
    params : CheckParams
        Thresholds.
    prediction : str, optional
        Surface prediction to compare with.
    ct : str, optional
        Scan to compare with.
    together : bool
        Lay folders of surfaces out as a whole too, which finds the jumps that only the other
        patches reveal.
    workers : int
        Processes; the report does not depend on them.
    progress : Progress
        Called after each surface.

    Returns
    -------
    Report
        A verdict per surface.

    Raises
    ------
    NothingFoundError
        If there is no surface.
    """
    from tracer.score import find_surfaces
    from tracer.volume import Volume

    found = find_surfaces(paths)
    if not found:
        raise NothingFoundError(
            f"{paths[0]}: no finished surface; give surfaces or folders of surfaces"
        )
    siblings = {folder: frozenset(_names(folder)) for folder in {path.parent for path in found}}
    order = list(range(len(found)))
    identity = ""
    if prediction is not None:
        order = _by_place(found)
        identity = Volume.open(prediction).identity
    tasks = [_Task(found[index], params, prediction, identity, ct) for index in order]
    checked: dict[int, Checked] = {}
    for done, (number, one) in enumerate(run_tasks(_check_one, tasks, workers)):
        index = order[number]
        # Here, not in the worker: sending all names with each of many tasks would be quadratic.
        stale = (
            _overlap_problems(found[index], siblings[found[index].parent]) if one.figures else []
        )
        checked[index] = dataclasses.replace(one, problems=(*one.problems, *stale))
        progress(done + 1, len(tasks), one.name)
    surfaces = [checked[index] for index in range(len(tasks))]
    if together:
        for folder in paths:
            if not (folder / "meta.json").exists():
                surfaces = _with_suspects(folder, surfaces, params)
    return Report(tuple(surfaces))


def _names(folder: Path) -> Iterator[str]:
    for entry in sorted(folder.iterdir()):
        if (entry / "meta.json").exists():
            yield entry.name


def _by_place(found: Sequence[Path]) -> list[int]:
    """Return the order in which neighbours come one after the other: they read the same chunks."""
    from tracer import tifxyz

    def place(path: Path) -> tuple[float, ...]:
        try:
            bbox = np.array(tifxyz.read_meta(path)["bbox"], np.float64)
            return tuple(float(x) for x in np.floor(bbox.mean(axis=0) / _NEIGHBOURHOOD)[::-1])
        except (TracerError, OSError, KeyError, TypeError, ValueError):
            return (np.inf,)

    return sorted(range(len(found)), key=lambda index: (*place(found[index]), index))


def _check_one(task: _Task) -> Checked:
    """Return the verdict on one surface."""
    import warnings

    from tracer.surface import Surface

    path = task.path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a wrong scale is reported below
            surface = Surface.load(path)
    except TracerError as error:
        problem = Problem("unreadable", FAIL, str(error))
        return Checked(name=path.name, path=str(path), figures={}, problems=(problem,))
    figures, problems = measure(surface, task.params)
    problems += _against_volumes(surface, task, figures)
    return Checked(name=path.name, path=str(path), figures=figures, problems=tuple(problems))


def measure(surface: "Surface", params: CheckParams) -> tuple[dict[str, Any], list[Problem]]:
    """Return what can be said about a surface by itself.

    Parameters
    ----------
    surface : Surface
        A surface.
    params : CheckParams
        Thresholds.

    Returns
    -------
    figures : dict
        Measures.
    problems : list of Problem
        What is beyond a threshold.
    """
    figures: dict[str, Any] = {
        "rows": surface.shape[0],
        "cols": surface.shape[1],
        "vertices": int(surface.valid.sum()),
        "area_vx2": round(surface.area_vx2, 1),
        "step": surface.step,
    }
    problems = _meta_problems(surface, params, figures)
    if not surface.valid_quads.any():
        return figures, [*problems, Problem("islands", FAIL, "no four neighbours are valid")]
    wrong_scale = any(problem.code == "scale" for problem in problems)
    problems += _shape_problems(surface, params, figures, wrong_scale=wrong_scale)
    if not wrong_scale:  # the window in which a jump is looked for is in steps
        problems += _jump_problems(surface, params, figures)
    return figures, problems


def _meta_problems(
    surface: "Surface", params: CheckParams, figures: dict[str, Any]
) -> list[Problem]:
    """Return where the metadata contradicts the geometry."""
    problems = []
    spacing = surface.spacing()
    figures["spacing"] = [None if np.isnan(s) else round(s, 3) for s in spacing]
    for along, measured, scale in zip(("row", "column"), spacing, surface.scale, strict=True):
        factor = measured * scale
        if not np.isnan(factor) and max(factor, 1 / factor) > params.max_scale_factor:
            problems.append(
                Problem(
                    "scale",
                    FAIL,
                    f"vertices along a {along} are {measured:.3g} voxels apart, but scale says "
                    f"{1 / scale:.3g}",
                )
            )
    stored = np.asarray(surface.meta.get("bbox", []), dtype=np.float64)
    if stored.shape == (2, 3):
        off = float(np.abs(stored - surface.bbox_xyz).max())
        figures["bbox_error"] = round(off, 3)
        if off > params.max_bbox_error and "mask.tif" not in surface.meta:
            problems.append(Problem("bbox", FAIL, f"the stored bbox is off by {off:.1f} voxels"))
    area = surface.meta.get("area_vx2")
    if isinstance(area, int | float) and surface.area_vx2 > 0:
        off = abs(float(area) / surface.area_vx2 - 1.0)
        figures["area_error"] = round(off, 4)
        if off > params.max_area_error:
            problems.append(Problem("area", WARN, f"the stored area is off by {100 * off:.0f} %"))
    return problems


def _shape_problems(
    surface: "Surface", params: CheckParams, figures: dict[str, Any], *, wrong_scale: bool
) -> list[Problem]:
    """Return folds, intersections, holes, islands and stretched cells."""
    from tracer.flatten import measure_distortion

    problems = []
    cells = int(surface.valid_quads.sum())
    folds = np.argwhere(measures.folded_cells(surface))
    folded = len(folds)
    crossed = measures.self_intersections(surface)
    crossing = len(crossed)
    holes, missing = measures.hole_cells(surface.valid)
    islands = measures.count_islands(surface.valid)
    distortion = measure_distortion(surface)
    figures |= {
        "folded_cells": folded,
        "intersecting_edges": crossing,
        "holes": holes,
        "hole_share": round(missing / (missing + cells), 5),
        "islands": islands,
        "distortion": distortion.to_json(),
    }
    if folded > params.max_folds * cells:
        text = f"{folded} cells are folded back"
        problems.append(Problem("fold", FAIL, text, _as_cells(folds)))
    if crossing > params.max_intersections:
        text = f"{crossing} edges cross another part of it"
        problems.append(Problem("self-intersection", FAIL, text, _as_cells(crossed)))
    if figures["hole_share"] > _HOLES_WORTH_A_WORD:
        level = FAIL if figures["hole_share"] > params.max_hole_share else WARN
        share = 100 * figures["hole_share"]
        problems.append(Problem("hole", level, f"{holes} holes, {share:.1f} % of the cells"))
    if islands > 1:
        problems.append(Problem("islands", WARN, f"{islands} parts that are not connected"))
    if distortion.stretch_p95 > params.max_stretch and not wrong_scale:
        problems.append(
            Problem(
                "stretch", FAIL, f"cells are stretched: p95 {100 * distortion.stretch_p95:.0f} %"
            )
        )
    return problems


def _as_cells(grid: NDArray[Any]) -> tuple[tuple[int, int], ...]:
    """Return the first places of an array as tuples."""
    return tuple((int(row), int(col)) for row, col in grid[:_MOST_CELLS])


def _jump_problems(
    surface: "Surface", params: CheckParams, figures: dict[str, Any]
) -> list[Problem]:
    """Return where the surface jumps to another wrap."""
    from tracer.winding import solve_winding

    try:
        winding = solve_winding(surface)
    except TracerError as error:
        return [Problem("jump", WARN, f"no winding: {error}")]
    figures["winding"] = winding.to_json()
    jumps = winding.discontinuities
    if len(jumps) <= params.max_jumps:
        return []
    x, y, z = jumps[0].xyz
    text = f"jumps to another wrap at {len(jumps)} places, first at {x:.0f} {y:.0f} {z:.0f}"
    cells = tuple((row, col) for jump in jumps for row in jump.rows for col in jump.cols)
    return [Problem("jump", FAIL, text, cells[:_MOST_CELLS])]


def _against_volumes(surface: "Surface", task: _Task, figures: dict[str, Any]) -> list[Problem]:
    """Return where the surface leaves the prediction."""
    from tracer.volume import Volume

    problems = []
    if task.ct is not None:
        figures["ct_support"] = round(measures.ct_support(Volume.open(task.ct), surface), 5)
    if task.prediction is not None:
        field = _field(task.prediction, task.identity, task.params.threshold)
        shares = measures.on_prediction(field, surface)
        figures["on_prediction"] = [round(share, 5) for share in shares]
        angles = measures.normal_agreement(field, surface)
        figures["normal_agreement_deg"] = [None if np.isnan(a) else round(a, 3) for a in angles]
        if shares[1] < task.params.min_on_prediction:
            problems.append(
                Problem("prediction", FAIL, f"only {100 * shares[1]:.0f} % lie on the prediction")
            )
    return problems


@functools.lru_cache(maxsize=1)
def _field(prediction: str, identity: str, threshold: int) -> "DistanceField":
    """Return the distance field of a prediction; the next surface reads the same chunks.

    The identity tells a volume that was made anew at the same path.
    """
    from tracer.distance_field import DistanceField
    from tracer.volume import Volume

    return DistanceField(Volume.open(prediction), threshold, cache_size_bytes=_FIELD_BYTES)


def _overlap_problems(path: Path, siblings: frozenset[str]) -> list[Problem]:
    """Return recorded overlaps with patches that are not there."""
    from tracer.collection import PatchCollection

    missing = sorted(set(PatchCollection.open(path.parent).overlaps(path.name)) - siblings)
    if not missing:
        return []
    text = f"{len(missing)} recorded overlaps are with patches that are gone, e.g. {missing[0]}"
    return [Problem("overlap", WARN, text)]


def _with_suspects(folder: Path, surfaces: list[Checked], params: CheckParams) -> list[Checked]:
    """Return the surfaces with what laying the whole collection out says about them."""
    from tracer.unroll.params import UnrollParams
    from tracer.unroll.slabs import suspects_of_collection

    usable = [Path(s.path) for s in surfaces if Path(s.path).parent == folder and s.figures]
    if len(usable) < 2:
        return surfaces
    options = UnrollParams(memory_gb=params.memory_gb)
    try:
        found, _ = suspects_of_collection(usable, options, pictures=False)
    except TracerError:
        return surfaces  # nothing overlaps: each surface has been judged by itself
    blamed: dict[str, list[Suspect]] = {}
    for suspect in found.suspects:
        is_tail = suspect.kind == "tail" and suspect.vertices >= _FEWEST_TAIL
        if is_tail or suspect.kind in _SUSPECT_KINDS:
            blamed.setdefault(suspect.patch, []).append(suspect)
    return [
        dataclasses.replace(
            one, problems=(*one.problems, _suspect_problem(blamed[one.name], params.max_tail))
        )
        if one.name in blamed and Path(one.path).parent == folder
        else one
        for one in surfaces
    ]


def _suspect_problem(suspects: "list[Suspect]", max_tail: int) -> Problem:
    """Return what the other patches say about one."""
    fails = any(one.kind != "tail" or one.vertices > max_tail for one in suspects)
    places = [
        f"{one.kind} of {one.vertices} at " + " ".join(f"{value:.0f}" for value in one.xyz)
        for one in suspects[:3]
    ]
    cells = tuple(cell for one in suspects for cell in one.cells)
    text = f"the other patches say: {'; '.join(places)}"
    return Problem("suspect", FAIL if fails else WARN, text, cells[:_MOST_CELLS])
