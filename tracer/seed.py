"""The seed stage: grow patches from given or random points and save them into a collection.

The result of item i depends on the volume, the parameters and (rng_seed, i) only, never on workers
or scheduling. A worker hands back the patch it grew, and the process that was started saves it as
soon as those before it are there: an interruption loses what is being grown only, and a task that
is done twice, because its worker died, is saved once.
"""

import contextlib
import dataclasses
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracer.direction_volume import open_guides
from tracer.distance_field import DistanceField
from tracer.errors import CollectionError, NothingFoundError, ParamsError, SeedError, TracerError
from tracer.patch_growth import GrownPatch, grow_patch, resume_patch
from tracer.progress import Progress, silent
from tracer.provenance import provenance
from tracer.random_seed import find_random_seed
from tracer.seed_params import SeedParams
from tracer.surface import Surface
from tracer.tifxyz import read_meta
from tracer.volume import Volume
from tracer.workers import Executor, run_tasks

Point = tuple[float, float, float]

GROWTH_CAP = 4.0  # voxels: patches grow as far and as well as with 8, for five sixths of the time
TOO_SMALL = "too small"  # why a patch was not kept


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedOutcome:
    """What became of one seed.

    Attributes
    ----------
    index : int
        Item number.
    name : str or None
        The saved patch; None where nothing was saved.
    area_cm2 : float
        Its area.
    reason : str
        Why nothing was saved; empty where something was.
    message : str
        One line about it.
    """

    index: int
    name: str | None
    area_cm2: float
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedResult:
    """Outcomes of a run, in item order.

    Attributes
    ----------
    outcomes : tuple of SeedOutcome
        One per seed.
    rng_seed : int
        Repeats the run.
    elapsed_s : float
        Wall time.
    """

    outcomes: tuple[SeedOutcome, ...]
    rng_seed: int
    elapsed_s: float

    @property
    def names(self) -> tuple[str, ...]:
        """Return the saved patches.

        Returns
        -------
        tuple of str
            Names in item order.
        """
        return tuple(outcome.name for outcome in self.outcomes if outcome.name is not None)

    def summary(self) -> str:
        """Return one line about the run.

        Returns
        -------
        str
            Patches, area, time and why others were not saved.
        """
        if len(self.outcomes) == 1:
            return self.outcomes[0].message
        area = sum(outcome.area_cm2 for outcome in self.outcomes if outcome.name is not None)
        reasons = Counter(o.reason for o in self.outcomes if o.reason)
        refused = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items()))
        return (
            f"{len(self.names)} patches, {area:.3f} cm2 from {len(self.outcomes)} seeds in "
            f"{self.elapsed_s:.1f} s (rng_seed {self.rng_seed})"
            + (f"; not saved: {refused}" if refused else "")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedTask:
    """One seed to grow: everything a worker needs.

    Attributes
    ----------
    volume : str
        Path of the prediction.
    paths : Path
        Folder of the collection.
    params : SeedParams
        Growth parameters.
    index : int
        Item number.
    rng_seed : int
        Seed of the run.
    point : tuple of float or None
        Explicit seed x, y, z; None for a random one.
    mode : str
        Written into the patch.
    source : str
        Command, written into the patch.
    resume : Path or None
        Surface to grow on instead of a seed.
    identity : str
        What the prediction is, see :func:`open_field`.
    """

    volume: str
    paths: Path
    params: SeedParams
    index: int
    rng_seed: int
    point: Point | None
    mode: str
    source: str = "tracer seed"
    resume: Path | None = None
    identity: str = ""


def seed(
    volume: Volume,
    paths: Path,
    params: SeedParams,
    *,
    points: Sequence[Point] = (),
    count: int = 1,
    resume: Path | None = None,
    missing_only: bool = False,
    workers: int | Executor = 1,
    progress: Progress = silent,
) -> SeedResult:
    """Grow and save patches from explicit points, from random ones, or from a saved patch.

    Parameters
    ----------
    volume : Volume
        Surface prediction, uint8.
    paths : Path
        Folder of the patch collection; created where it does not exist.
    params : SeedParams
        Growth parameters.
    points : sequence of (x, y, z)
        Explicit seeds in voxels; random ones are drawn where it is empty.
    count : int
        Number of random seeds.
    resume : Path, optional
        Surface to grow on, up to its generation ``rewind_gen``, into a patch of its own; instead
        of seeds.
    missing_only : bool
        Leave out random seeds whose patches an interrupted run with the same ``rng_seed`` saved.
    workers : int or Executor
        Processes, or whatever else runs the tasks.
    progress : Progress
        Called per seed.

    Returns
    -------
    SeedResult
        What became of each seed; the patches are on disk.

    Raises
    ------
    SeedError
        If the only seed given lies outside the volume, off the prediction or on no clean sheet.
    NothingFoundError
        If no patch was large enough, or no random seed was found.
    VolumeError
        If the volume cannot serve as a prediction or a direction field cannot be opened.
    CollectionError
        If the folder cannot be written.
    ParamsError
        If the mode and the given seeds or surface contradict each other.
    SurfaceError
        If the surface to grow on cannot be read or does not fit the step or the volume.
    """
    mode = _mode(params, bool(points), count, resume)
    volume.require_prediction()
    volume.require_voxel_size()
    # A cache that cannot be written and a direction field that is not there fail before any work.
    open_field(volume.path, params, volume.identity)
    open_guides.cache_clear()  # it may have been made again since
    open_guides(params.direction_fields)
    rng_seed = secrets.randbits(32) if params.rng_seed is None else params.rng_seed
    seeds: Sequence[Point | None] = list(points) or [None] * count
    tasks = [
        SeedTask(
            volume=volume.path,
            paths=paths,
            params=params,
            index=index,
            rng_seed=rng_seed,
            point=point,
            mode=mode,
            resume=resume,
            identity=volume.identity,
        )
        for index, point in enumerate(seeds)
    ]
    started = time.monotonic()
    saved = _saved_before(paths, rng_seed) if missing_only else {}
    with _collection_folder(paths):
        outcomes = _grow_all(tasks, saved, workers, progress)
        result = SeedResult(
            outcomes=tuple(outcomes), rng_seed=rng_seed, elapsed_s=time.monotonic() - started
        )
        if not result.names:
            too_small = len(outcomes) > 1 and any(o.reason == TOO_SMALL for o in outcomes)
            advice = smaller_patches_advice(params) if too_small else ""
            raise NothingFoundError(f"no patch was saved: {result.summary()}{advice}")
    return result


def smaller_patches_advice(params: SeedParams) -> str:
    """Return what to do where patches are too small to be kept.

    Parameters
    ----------
    params : SeedParams
        The parameters they were grown with.

    Returns
    -------
    str
        End of a message.
    """
    return f"; lower min_area_cm, which is {params.min_area_cm:g}, or grow more generations"


def _mode(params: SeedParams, has_points: bool, count: int, resume: Path | None) -> str:
    """Return the mode that is written into the patches."""
    if resume is None:
        if params.mode == "resume":
            raise ParamsError("mode = resume: no segment to grow on; name it with --resume")
        if params.mode == "explicit_seed" and not has_points:
            raise ParamsError("mode = explicit_seed: no point to grow at; give x y z")
        if has_points and count != 1:
            raise ParamsError(f"count = {count}: is for random seeds; leave it or the point out")
        return "explicit_seed" if has_points else (params.mode or "random_seed")  # as in VC3D
    if params.mode not in (None, "resume"):
        raise ParamsError(f"mode = {params.mode}: {resume} is given to resume; leave the mode out")
    if has_points or count != 1:
        raise ParamsError(f"{resume}: a segment to resume needs no seeds; give one or the other")
    return "resume"


def _saved_before(paths: Path, rng_seed: int) -> dict[int, SeedOutcome]:
    """Return the patches of the random seeds of a run that are in a collection already."""
    found = {}
    for file in sorted(paths.glob("[!.]*/meta.json")):
        meta = read_meta(file.parent)
        item = meta.get("item")
        of_run = meta.get("rng_seed") == rng_seed and meta.get("vc_gsfs_mode") == "random_seed"
        if of_run and isinstance(item, int):
            found[item] = SeedOutcome(
                index=item,
                name=file.parent.name,
                area_cm2=float(meta.get("area_cm2", 0.0)),
                reason="",
                message=f"{file.parent.name}: saved before",
            )
    return found


def _grow_all(
    tasks: Sequence[SeedTask],
    saved: Mapping[int, SeedOutcome],
    workers: int | Executor,
    progress: Progress,
) -> list[SeedOutcome]:
    """Return what became of each seed; an only one that is bad raises."""
    if len(tasks) == 1:
        return [save_grown(tasks[0], *grow(tasks[0]))]
    found = {task.index: saved[task.index] for task in tasks if task.index in saved}
    left = [task for task in tasks if task.index not in found]
    # in order, so that names have the order of the seeds, which later stages go by
    for k, grown in run_tasks(grow_or_explain, left, workers, ordered=True):
        found[left[k].index] = save_grown(left[k], *grown)
        n_saved = sum(o.name is not None for o in found.values())
        progress(len(found), len(tasks), f"{n_saved} patches")
    return [found[index] for index in range(len(tasks))]


@contextlib.contextmanager
def _collection_folder(paths: Path) -> Iterator[None]:
    """Create the folder of a collection; take an own, empty one away again after an error."""
    is_new = not paths.exists()
    try:
        paths.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CollectionError(
            f"{paths}: cannot create the collection ({error.strerror}); name a writable folder"
        ) from error
    try:
        yield
    except TracerError:
        if is_new:
            with contextlib.suppress(OSError):  # another process has saved into it meanwhile
                paths.rmdir()
        raise


@lru_cache(maxsize=2)
def open_field(
    volume_path: str, params: SeedParams, identity: str = ""
) -> tuple[Volume, DistanceField]:
    """Return the volume and its field, opened once per process.

    Parameters
    ----------
    volume_path : str
        Surface prediction.
    params : SeedParams
        Threshold and cache.
    identity : str
        What the prediction is: one that was made again at the same path is opened again.

    Returns
    -------
    tuple of Volume and DistanceField
        Shared by all tasks of this process.
    """
    volume = Volume.open(volume_path)
    field = DistanceField(
        volume,
        threshold=params.threshold,
        cap=GROWTH_CAP,
        cache_root=params.cache_root,
        cache_limit_gb=params.cache_limit_gb,
        cache_size_bytes=params.cache_size,
    )
    return volume, field


def grow_or_explain(task: SeedTask) -> tuple[SeedOutcome, Surface | None]:
    """Return what became of one seed among many; a bad seed is counted, not raised.

    Parameters
    ----------
    task : SeedTask
        The seed.

    Returns
    -------
    outcome : SeedOutcome
        With a reason where there is no patch.
    surface : Surface or None
        The patch.
    """
    try:
        return grow(task)
    except SeedError as error:
        return _refused(task, "without a clean start", str(error)), None
    except NothingFoundError as error:
        return _refused(task, "not found", str(error)), None


def grow(task: SeedTask) -> tuple[SeedOutcome, Surface | None]:
    """Return what became of one seed.

    Parameters
    ----------
    task : SeedTask
        The seed.

    Returns
    -------
    outcome : SeedOutcome
        Its name is empty until it is saved; or that the patch was too small.
    surface : Surface or None
        The patch.

    Raises
    ------
    SeedError
        If the seed lies outside the volume, off the prediction or on no clean sheet.
    NothingFoundError
        If no random seed was found.
    SurfaceError
        If the surface to grow on cannot be read or does not fit the step or the volume.
    """
    started = time.monotonic()
    volume, field = open_field(task.volume, task.params, task.identity)
    patch, point = _grow_task(task, volume, field)
    surface = patch_surface(patch, task, volume, point, time.monotonic() - started)
    area_cm2 = surface.area_cm2(volume.voxel_size_um)
    if area_cm2 < task.params.min_area_cm:
        message = (
            f"{area_cm2:.4f} cm2 is less than min_area_cm {task.params.min_area_cm:g}: "
            f"{patch.summary()}"
        )
        return _refused(task, TOO_SMALL, message), None
    outcome = SeedOutcome(
        index=task.index,
        name="",
        area_cm2=area_cm2,
        reason="",
        message=f"{area_cm2:.4f} cm2, {patch.summary()}",
    )
    return outcome, surface


def save_grown(task: SeedTask, outcome: SeedOutcome, surface: Surface | None) -> SeedOutcome:
    """Save what a worker has grown.

    Parameters
    ----------
    task : SeedTask
        The seed.
    outcome : SeedOutcome
        What became of it.
    surface : Surface or None
        The patch.

    Returns
    -------
    SeedOutcome
        With the name of the saved patch.

    Raises
    ------
    OutputError
        If the collection cannot be written.
    """
    if surface is None:
        return outcome
    name = surface.save_new(task.paths).name
    return dataclasses.replace(outcome, name=name, message=f"{name}: {outcome.message}")


def _grow_task(
    task: SeedTask, volume: Volume, field: DistanceField
) -> tuple[GrownPatch, NDArray[np.float64]]:
    """Return the patch of a task and the point that it goes back to."""
    if task.resume is not None:
        surface = Surface.load(task.resume)
        patch = resume_patch(field, surface, task.params)
        seed_xyz = surface.meta.get("seed")
        is_point = isinstance(seed_xyz, list) and len(seed_xyz) == 3
        return patch, np.array(seed_xyz, np.float64) if is_point else patch.start_xyz
    if task.point is None:
        rng = np.random.default_rng([task.rng_seed, task.index])
        point = find_random_seed(volume, task.params.threshold, rng)
    else:
        point = np.array(task.point, np.float64)
    try:
        return grow_patch(field, point, task.params), point
    except SeedError as error:
        raise SeedError(f"{task.volume}: {error}") from error


def _refused(task: SeedTask, reason: str, message: str) -> SeedOutcome:
    return SeedOutcome(index=task.index, name=None, area_cm2=0.0, reason=reason, message=message)


def patch_surface(
    patch: GrownPatch,
    task: SeedTask,
    volume: Volume,
    point: NDArray[np.float64],
    elapsed_s: float,
) -> Surface:
    """Return a grown patch as a surface with channels and provenance.

    Parameters
    ----------
    patch : GrownPatch
        The patch.
    task : SeedTask
        What it was grown for.
    volume : Volume
        The prediction.
    point : ndarray of float64, shape (3,)
        The seed.
    elapsed_s : float
        Seconds of work.

    Returns
    -------
    Surface
        Ready to be saved.
    """
    growth = {
        "start": patch.start_xyz.tolist(),
        "avg_cost": patch.mean_cost,
        "max_cost": patch.max_cost,
        "sheet_thickness_vx": patch.thickness,
        "on_prediction_fraction": patch.on_prediction,
        "median_normal_deviation_deg": float(np.degrees(np.arcsin(patch.median_tilt))),
        "rejections": patch.rejections,
        "item": task.index,
    }
    if task.resume is not None:
        growth["resumed_from"] = task.resume.absolute().name
    meta = provenance(
        task.source,
        task.params,
        rng_seed=task.rng_seed,
        volume=volume,
        elapsed_time_s=elapsed_s,
        seed_xyz=[float(v) for v in point],
        mode=task.mode,
        max_gen=patch.max_gen,
        extra=growth,
    )
    scale = 1.0 / task.params.step_size
    return Surface(
        points_xyz=patch.points_xyz.astype(np.float32),
        valid=patch.state > 0,
        scale=(scale, scale),
        channels={"generations": patch.generations, "confidence": patch.confidence},
        meta=meta,
    )
