"""The stage: one consensus surface grown over the patches of a collection."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracer.errors import CollectionError, OutputError
from tracer.progress import Progress, silent
from tracer.provenance import provenance
from tracer.trace.growth import grow
from tracer.trace.output import trace_surface, used_patches
from tracer.trace.params import TraceParams
from tracer.trace.patches import (
    Suspicions,
    TracePatches,
    check_windings,
    cut_patches,
    find_suspects_files,
    load_surfaces,
    read_suspects,
)
from tracer.trace.state import STATE_NAME, Trace, begin_trace, load_trace, make_work

if TYPE_CHECKING:
    from tracer.surface import Surface
    from tracer.volume import Volume

SOURCE = "tracer trace"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TraceResult:
    """What a trace made.

    Attributes
    ----------
    path : Path
        The surface.
    surface : Surface
        The same in memory, as it was saved.
    n_nodes : int
        Coarse nodes.
    generations : int
        Generations grown.
    refused : tuple of int
        Candidates refused as contradicted, colliding, lacking consensus.
    n_patches : int
        Patches that support the trace.
    approved : tuple of str
        Approved patches among them.
    previews : tuple of Path
        Previews of this run.
    stopped : bool
        Whether it was stopped before the end.
    """

    path: Path
    surface: "Surface"
    n_nodes: int
    generations: int
    refused: tuple[int, int, int]
    n_patches: int
    approved: tuple[str, ...]
    previews: tuple[Path, ...]
    stopped: bool

    def summary(self) -> str:
        """Return a few lines about the trace.

        Returns
        -------
        str
            Text for a person.
        """
        lines = [
            (
                f"{'stopped early: ' if self.stopped else ''}{self.n_nodes} nodes in "
                f"{self.generations} generations, {self.surface.area_vx2:.0f} vx2 from "
                f"{self.n_patches} patches"
            ),
            (
                f"refused looks at candidates: {self.refused[0]} contradicted, "
                f"{self.refused[1]} on the trace itself, {self.refused[2]} lacking consensus"
            ),
        ]
        if self.approved:
            lines.append(f"approved patches used: {', '.join(self.approved)}")
        return "\n".join([*lines, f"wrote {self.path}"])


def prepare_patches(
    paths: Path, params: TraceParams, *, suspects: Path | None = None, seed_patch: str = ""
) -> TracePatches:
    """Return the patches of a collection, cut where they are known to jump.

    Parameters
    ----------
    paths : Path
        The collection.
    params : TraceParams
        Parameters.
    suspects : Path, optional
        A ``suspects.json``; looked for where omitted.
    seed_patch : str
        A patch that is not left out as a whole.

    Returns
    -------
    TracePatches
        Without defective ones.
    """
    surfaces = load_surfaces(paths, params.heights())
    files = find_suspects_files(paths) if suspects is None else [suspects]
    suspicions, layout = Suspicions(), None
    if params.winding_check:
        suspicions, layout = check_windings(paths, surfaces, params.memory_gb)
    if files:
        suspicions = read_suspects(files, surfaces)
    return cut_patches(surfaces, suspicions, keep=seed_patch, layout=layout)


def trace(
    paths: Path,
    out: Path,
    params: TraceParams,
    seed_patch: str | Path,
    *,
    prediction: "Volume | None" = None,
    suspects: Path | None = None,
    resume: Path | None = None,
    progress: Progress | None = None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> TraceResult:
    """Grow one consensus surface over the patches of a collection and save it.

    Parameters
    ----------
    paths : Path
        The collection.
    out : Path
        Directory for the surface and its previews.
    params : TraceParams
        Parameters.
    seed_patch : str or Path
        Name or directory of the patch to begin on.
    prediction : Volume, optional
        The volume that the patches were grown on: what closes holes is moved to its sheets.
    suspects : Path, optional
        A ``suspects.json`` of `tracer unroll`; looked for beside the collection where omitted.
    resume : Path, optional
        A preview to go on from.
    progress : Progress, optional
        Called after each generation.
    is_stopped : callable
        Asked after each generation; True ends the growth, and what there is is saved.

    Returns
    -------
    TraceResult
        Where it is, and what was refused.

    Raises
    ------
    CollectionError
        If the seed patch is not usable.
    NothingFoundError
        If the seed patch has no room for the first nodes.
    """
    report = progress or silent
    name = Path(seed_patch).name
    patches = prepare_patches(paths, params, suspects=suspects, seed_patch=name)
    pieces = patches.pieces_of(name)
    if not pieces:
        raise CollectionError(
            f"{paths}: the seed patch '{name}' is not there, defective or nothing but jumps; "
            "choose another one"
        )
    digest = patches.digest()
    table, work = patches.table(params.spacing, pieces[0]), make_work(len(patches.names))
    if resume is not None:
        running = load_trace(Path(resume) / STATE_NAME, len(patches.names), digest)
    else:
        seed = pieces[0]
        running = begin_trace(table, work, seed, patches.surfaces[seed].valid, params)
    _make_folder(out)
    previews: list[Path] = []
    stopped = False

    def saved(prefix: str, whole: bool = False) -> "tuple[Path, Surface]":
        close = (patches, prediction) if whole else (None, None)
        surface = trace_surface(running, table, work, params, *close)
        complete = dataclasses.replace(
            surface, meta=_meta(running, patches, params, name, prediction, stopped)
        )
        return complete.save_new(out, prefix=prefix), complete

    def after_generation(grown: Trace) -> bool:
        nonlocal stopped
        report(grown.used_cols, 0, f"generation {grown.generation}")
        stopped = is_stopped()
        if grown.generation % params.preview_every == 0 and not stopped:
            directory, _ = saved(f"z_dbg_gen_{grown.generation:05d}")
            grown.save(directory / STATE_NAME, digest)
            previews.append(directory)
        return not stopped

    grow(running, table, work, params, after_generation)
    path, surface = saved("auto_trace", whole=True)
    if stopped:
        running.save(path / STATE_NAME, digest)
    used = sorted({patches.names[i] for i in used_patches(running).tolist()})
    return TraceResult(
        path=path,
        surface=surface,
        n_nodes=int((running.state.status > 0).sum()),
        generations=running.generation,
        refused=(int(running.refused[0]), int(running.refused[1]), int(running.refused[2])),
        n_patches=len(used),
        approved=tuple(n for n in used if n in patches.approved),
        previews=tuple(previews),
        stopped=stopped,
    )


def _meta(
    running: Trace,
    patches: TracePatches,
    params: TraceParams,
    seed_patch: str,
    prediction: "Volume | None",
    stopped: bool,
) -> dict[str, Any]:
    used = sorted({patches.names[i] for i in used_patches(running).tolist()})
    return provenance(
        SOURCE,
        params,
        volume=prediction,
        seed_xyz=running.seed_xyz,
        max_gen=running.generation,
        extra={
            "vc_grow_seg_from_segments_params": params.effective(),
            "used_approved_segments": [n for n in used if n in patches.approved],
            "used_segments": used,
            "seed_patch": seed_patch,
            "suspects": list(patches.suspicions.sources),
            "suspects_cut": {n: len(c) for n, c in patches.suspicions.cells.items()},
            "suspects_excluded": sorted(patches.suspicions.excluded),
            "stopped_early": stopped,
            "refused": {
                "contradicted": int(running.refused[0]),
                "colliding": int(running.refused[1]),
                "lacking_consensus": int(running.refused[2]),
            },
        },
    )


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot create ({error.strerror}); check the path") from error
