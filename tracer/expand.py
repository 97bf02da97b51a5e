"""The expand stage: grow patches around the patches of a collection until it is densely covered.

Work goes in rounds. A round draws its targets from the collection as it was when the round began,
grows them in any order, saves them and records their overlaps. So a run depends on the collection,
the parameters and the rng seed, and not on workers or scheduling.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from tracer.collection import PatchCollection
from tracer.coverage import CoverageSample
from tracer.errors import NothingFoundError, TracerError
from tracer.progress import Progress, silent
from tracer.seed import (
    TOO_SMALL,
    Point,
    SeedOutcome,
    SeedTask,
    grow_or_explain,
    open_field,
    save_grown,
    smaller_patches_advice,
)
from tracer.seed_params import SeedParams
from tracer.surface import Surface
from tracer.tifxyz import read_meta
from tracer.volume import Volume
from tracer.workers import Executor, executor_of

ROUND_SIZE = 16  # targets per round
_TRIES_PER_TARGET = 200  # points looked at before a round is cut short
_EDGE_SHARE = 0.5  # targets near the rim of a patch instead of anywhere on it
_UNCOVERED_SHARE = 0.25  # targets on prediction that no patch covers yet
_RIM_CELLS = 3  # cells from the rim that count as near it
_APART = 2.0  # steps between two targets of one round
_DRY_ROUNDS = 8  # rounds in a row without a new patch that end the run
_STALL_ROUNDS = 4  # with a coverage target: rounds over which it has to grow by _STALL_GAIN
_STALL_GAIN = 0.004
_CONNECTED_AGAIN = 64  # patches, four rounds of interrupted runs


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpandLimits:
    """When to stop; the first limit that is reached does.

    Attributes
    ----------
    count : int or None
        New patches.
    time_s : float or None
        Seconds.
    coverage : float or None
        Covered share of the prediction.
    """

    count: int | None = None
    time_s: float | None = None
    coverage: float | None = None


@dataclass(slots=True, kw_only=True)
class ExpandResult:
    """What a run has done.

    Attributes
    ----------
    names : list of str
        New patches.
    area_cm2 : float
        Their area.
    coverage_before : float
        Covered share of the prediction before the first round.
    coverages : list of float
        The same after each round.
    refused : Counter
        Targets that gave no patch, per reason.
    coverage_by_region : dict of str to float
        The same per slab along z.
    stopped_by : str
        Which limit was reached.
    rng_seed : int
        Repeats the run on the same collection.
    elapsed_s : float
        Wall time.
    """

    names: list[str] = field(default_factory=list)
    area_cm2: float = 0.0
    coverage_before: float = 0.0
    coverages: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    coverage_by_region: dict[str, float] = field(default_factory=dict)
    stopped_by: str = ""
    rng_seed: int = 0
    elapsed_s: float = 0.0

    @property
    def coverage(self) -> float:
        """Return the covered share of the prediction.

        Returns
        -------
        float
            After the last round.
        """
        return self.coverages[-1] if self.coverages else self.coverage_before

    def summary(self) -> str:
        """Return a few lines about the run.

        Returns
        -------
        str
            Patches, area, coverage, and why others were refused.
        """
        refused = ", ".join(f"{n} {reason}" for reason, n in sorted(self.refused.items()))
        regions = ", ".join(f"{name}: {s:.2f}" for name, s in self.coverage_by_region.items())
        return (
            f"{len(self.names)} patches, {self.area_cm2:.3f} cm2 in {len(self.coverages)} rounds, "
            f"{self.elapsed_s:.1f} s, stopped by {self.stopped_by} (rng_seed {self.rng_seed})"
            + (f"; not saved: {refused}" if refused else "")
            + f"\ncoverage {self.coverage:.3f} of the prediction"
            + (f" ({regions})" if regions else "")
        )


def expand(
    volume: Volume,
    paths: Path,
    params: SeedParams,
    limits: ExpandLimits,
    *,
    into: Sequence[Point] = (),
    workers: int | Executor = 1,
    round_size: int = ROUND_SIZE,
    progress: Progress = silent,
) -> ExpandResult:
    """Grow patches around the patches of a collection until a limit is reached.

    Parameters
    ----------
    volume : Volume
        Surface prediction, uint8.
    paths : Path
        Existing collection with at least one patch.
    params : SeedParams
        Growth parameters; ``tgt_overlap_count`` is how many patches should cover every point.
    limits : ExpandLimits
        When to stop.
    into : sequence of (x, y, z)
        Targets to grow at first, for instance the holes that unroll found.
    workers : int or Executor
        Processes, or whatever else runs the tasks.
    round_size : int
        Targets per round; the result depends on it, but not on `workers`.
    progress : Progress
        Called per patch.

    Returns
    -------
    ExpandResult
        The patches and their overlaps are on disk.

    Raises
    ------
    NothingFoundError
        If the collection is empty, or no target gave an acceptable patch.
    VolumeError
        If the volume cannot serve as a prediction.
    CollectionError
        If the collection cannot be read or written.
    """
    volume.require_prediction()
    volume.require_voxel_size()
    open_field(volume.path, params, volume.identity)
    collection = PatchCollection.open(paths)
    if not collection.names():
        raise NothingFoundError(f"{paths}: no patch to expand; run tracer seed first")
    rng_seed = secrets.randbits(32) if params.rng_seed is None else params.rng_seed
    started = time.monotonic()
    result = ExpandResult(rng_seed=rng_seed)
    with executor_of(workers) as pool:
        run = _Run(collection, volume, params, rng_seed, pool)
        run.connect_unconnected()
        result.coverage_before = run.sample.fraction
        if limits.coverage is not None and result.coverage >= limits.coverage and not into:
            result.stopped_by = "coverage"
        _expand_until(run, result, limits, list(into), round_size, started, progress)
    result.coverage_by_region = run.sample.by_region()
    result.elapsed_s = time.monotonic() - started
    if result.refused and not result.names:
        advice = smaller_patches_advice(params) if result.refused[TOO_SMALL] else ""
        summary = result.summary().splitlines()[0]
        raise NothingFoundError(f"{paths}: no patch was saved: {summary}{advice}")
    return result


def _expand_until(
    run: "_Run",
    result: ExpandResult,
    limits: ExpandLimits,
    queue: list[Point],
    round_size: int,
    started: float,
    progress: Progress,
) -> None:
    """Grow rounds until a limit is reached."""
    dry = 0

    def report() -> None:
        progress(*_position(result, run, limits, started))

    while not result.stopped_by:
        size = round_size
        if limits.count is not None:
            size = min(size, limits.count - len(result.names))
        targets = queue[:size] or run.draw_targets(len(result.coverages), size)
        del queue[:size]
        before = len(result.names)
        run.grow_round(targets, result, report)
        dry = 0 if len(result.names) > before else dry + 1
        result.coverages.append(run.sample.fraction)
        report()
        result.stopped_by = _stop_reason(result, limits, started, dry, bool(targets), bool(queue))


def _stop_reason(
    result: ExpandResult,
    limits: ExpandLimits,
    started: float,
    dry: int,
    had_targets: bool,
    queued: bool,
) -> str:
    """Return which limit was reached, empty where none was."""
    if limits.count is not None and len(result.names) >= limits.count:
        return "count"
    if limits.time_s is not None and time.monotonic() - started >= limits.time_s:
        return "time"
    if limits.coverage is not None:
        if result.coverage >= limits.coverage:
            return "coverage"
        before = result.coverages[-1 - _STALL_ROUNDS :][:1]
        stalled = len(result.coverages) > _STALL_ROUNDS
        if stalled and not queued and result.coverage - before[0] < _STALL_GAIN:
            return "coverage that no longer grows"
    if not had_targets and not queued:
        return "saturation: every point looked at is on enough patches"
    if dry >= _DRY_ROUNDS:
        return f"{dry} rounds in a row without a new patch"
    return ""


def _position(
    result: ExpandResult, run: "_Run", limits: ExpandLimits, started: float
) -> tuple[float, float, str]:
    """Return how far the nearest limit is, with the coverage as a note."""
    shares = [0.0]
    if limits.count:
        shares.append(len(result.names) / limits.count)
    if limits.time_s:
        shares.append((time.monotonic() - started) / limits.time_s)
    if limits.coverage:
        shares.append(run.sample.fraction / limits.coverage)
    note = f"{len(result.names)} patches, coverage {run.sample.fraction:.3f}"
    return min(1.0, max(shares)), 1.0, note


class _Run:
    """State of a run: the collection, its index and the coverage sample."""

    def __init__(
        self,
        collection: PatchCollection,
        volume: Volume,
        params: SeedParams,
        rng_seed: int,
        workers: Executor,
    ) -> None:
        self.collection = collection
        self.index = collection.index()
        self.sample = CoverageSample.draw(volume, params.threshold, rng_seed)
        self.sample.update(self.index)
        self._volume = volume
        self._params = params
        self._rng_seed = rng_seed
        self._workers = workers
        self._item = 0
        self._keys: dict[str, tuple[tuple[float, ...], float, str]] = {}

    def connect_unconnected(self) -> None:
        """Record the overlaps of seeds and of what an interrupted run left behind.

        Of the patches of its last round that run may have connected some, among them with others
        that it had not come to; so the latest patches are connected again.
        """
        graph = self.collection.overlap_graph()
        names = self.collection.names()
        latest = set(names[-_CONNECTED_AGAIN:])
        self._record_overlaps([name for name in names if not graph.get(name) or name in latest])

    def _record_overlaps(self, names: Sequence[str]) -> None:
        neighbours = {}
        for name in names:
            surface = self._load(name)
            if surface is not None:
                neighbours[name] = self.index.overlapping(surface, exclude=[name])
        self.collection.connect(neighbours)

    def _load(self, name: str) -> Surface | None:
        """Return a patch, None where it cannot be read; the index has warned of that."""
        try:
            return self.collection.load(name, channels=())
        except TracerError:
            return None

    def draw_targets(self, round_number: int, size: int) -> list[Point]:
        """Return points that too few patches contain, apart from each other."""
        rng = np.random.default_rng([self._rng_seed, 0xE0, round_number])
        names = self._names_by_content()
        targets: list[NDArray[np.float64]] = []
        apart = _APART * self._params.step_size
        for _ in range(_TRIES_PER_TARGET * size):
            if len(targets) == size:
                break
            point = self._draw_point(rng, names)
            if point is None or any(np.linalg.norm(point - other) < apart for other in targets):
                continue
            # The patch that a point was drawn from counts as well, so this is VC3D's test.
            if len(self.index.patches_near(point[None])) < self._params.tgt_overlap_count:
                targets.append(point)
        return [(float(p[0]), float(p[1]), float(p[2])) for p in targets]

    def _names_by_content(self) -> list[str]:
        """Return the patches in an order that does not depend on when each was saved."""
        names = self.collection.names()
        for name in names:
            if name not in self._keys:
                self._keys[name] = self._content_key(name)
        return sorted(names, key=lambda name: self._keys[name])

    def _content_key(self, name: str) -> tuple[tuple[float, ...], float, str]:
        try:
            meta = read_meta(self.collection.patch_path(name))
        except TracerError:
            meta = {}
        seed, area = meta.get("seed"), meta.get("area_vx2")
        numbers = tuple(v for v in seed if _is_number(v)) if isinstance(seed, list) else ()
        return numbers, area if _is_number(area) else 0.0, name

    def _draw_point(self, rng: np.random.Generator, names: list[str]) -> NDArray[np.float64] | None:
        """Return an uncovered voxel of the sample, or a vertex of a random patch if it has any."""
        uncovered = np.flatnonzero(~self.sample.covered)
        if rng.random() < _UNCOVERED_SHARE and len(uncovered):
            voxel: NDArray[np.float64] = self.sample.points_xyz[rng.choice(uncovered)]
            return voxel
        surface = self._load(names[int(rng.integers(len(names)))])
        if surface is None or not surface.valid.any():  # all of it may be masked out
            return None
        allowed = surface.valid
        if rng.random() < _EDGE_SHARE:
            allowed = surface.valid & ~_eroded(surface.valid, _RIM_CELLS)
        rows, cols = np.nonzero(allowed)
        chosen = int(rng.integers(len(rows)))
        vertex: NDArray[np.float64] = surface.points_xyz[rows[chosen], cols[chosen]].astype(float)
        return vertex

    def grow_round(
        self, targets: Sequence[Point], result: ExpandResult, report: Callable[[], None]
    ) -> None:
        """Grow, save and connect the patches of a round."""
        tasks = [
            SeedTask(
                volume=self._volume.path,
                paths=self.collection.path,
                params=self._params,
                index=self._item + k,
                rng_seed=self._rng_seed,
                point=target,
                mode="expansion",
                source="tracer expand",
                identity=self._volume.identity,
            )
            for k, target in enumerate(targets)
        ]
        self._item += len(tasks)
        outcomes: dict[int, SeedOutcome] = {}
        for index, grown in self._workers.run(grow_or_explain, tasks, ordered=True):
            outcomes[index] = save_grown(tasks[index], *grown)
            report()
        names = []
        for _, outcome in sorted(outcomes.items()):
            if outcome.name is None:
                result.refused[outcome.reason] += 1
            else:
                names.append(outcome.name)
                result.area_cm2 += outcome.area_cm2
        result.names.extend(names)
        if names:
            self.index = self.collection.index(recheck=False)
            self._record_overlaps(names)
            self.sample.update(self.index)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float)


def _eroded(valid: NDArray[np.bool_], cells: int) -> NDArray[np.bool_]:
    """Return the vertices at least `cells` from the rim along rows and columns."""
    inner = np.pad(valid, cells)
    for axis in (0, 1):
        shifted = [np.roll(inner, shift, axis) for shift in range(-cells, cells + 1)]
        inner = np.logical_and.reduce(shifted)
    return inner[cells:-cells, cells:-cells]
