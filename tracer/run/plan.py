"""What a run will do: the commands of its steps, in order, with what they read and write.

Two kinds of words of a command are known only when it begins: ``*`` stands for the names that the
step before gave, as in a shell, and ``<largest patch>`` for that patch.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tracer.errors import NothingFoundError, ParamsError
from tracer.run.config import RunParams

PARAMS = "params"  # folder of the stages' parameter files
STAGES = (
    *("prepare", "predict", "seed", "expand", "unroll"),
    *("trace", "trace-back", "winding", "fuse", "ground", "render", "check"),
)
LARGEST = "<largest patch>"
_FILES = ("prepare", "predict", "seed", "unroll", "trace", "fuse", "render", "check")
_ENDS = {"trace": "forward", "trace-back": "backward"}
_ANYTHING_ELSE = ("tif", "tiff", "nrrd", "npy")  # suffixes of what has to be prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of a run.

    Attributes
    ----------
    name : str
        Its stage.
    words : tuple of str
        Command line without ``tracer``.
    needs : tuple of str
        Names of the steps whose results it reads.
    writes : Path
        What it makes.
    by_hand : Path or None
        Collection whose masks and tags, made by people, it reads.
    may_fail : bool
        Whether exit status 1, "found something bad", is no reason to stop.
    replaces : bool
        Whether what it made before is removed first: its names are new every time.
    surfaces : str
        Pattern below the folder of the run of the surfaces it makes; empty for none.
    """

    name: str
    words: tuple[str, ...]
    needs: tuple[str, ...]
    writes: Path
    by_hand: Path | None = None
    may_fail: bool = False
    replaces: bool = False
    surfaces: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a run begins with.

    Attributes
    ----------
    prediction : str or None
        Surface prediction; made from the CT where there is none.
    ct : str or None
        Scan; nothing is rendered without it.
    files : str or None
        Scan that is no OME-Zarr yet; `ct` is made of it.
    """

    prediction: str | None = None
    ct: str | None = None
    files: str | None = None


@dataclass(slots=True)
class _Plan:
    """A plan while it is made."""

    params: RunParams
    out: Path
    engine: tuple[str, ...]
    steps: list[Step] = field(default_factory=list)

    def add(
        self,
        name: str,
        words: Sequence[str | Path],
        needs: Sequence[str],
        writes: Path,
        *,
        by_hand: Path | None = None,
        may_fail: bool = False,
        replaces: bool = False,
        surfaces: str = "",
    ) -> None:
        """Append a step."""
        self.steps.append(
            Step(
                name=name,
                words=tuple(map(str, words)),
                needs=tuple(needs),
                writes=writes,
                by_hand=by_hand,
                may_fail=may_fail,
                replaces=replaces,
                surfaces=surfaces,
            )
        )

    def file(self, stage: str) -> Path:
        """Return the parameter file of a stage."""
        return self.out / PARAMS / f"{stage}.json"

    def axis(self) -> tuple[str, ...]:
        """Return the words that name the axis."""
        umbilicus = self.params.umbilicus
        return ("--umbilicus", umbilicus) if umbilicus else ()


def make_plan(
    params: RunParams,
    out: Path,
    *,
    inputs: Inputs,
    workers: int = 1,
    dask: str | None = None,
) -> list[Step]:
    """Return the steps of a run.

    Parameters
    ----------
    params : RunParams
        Configuration.
    out : Path
        Folder of the run.
    inputs : Inputs
        What there is.
    workers : int
        Processes of the stages that use several.
    dask : str or None
        Scheduler whose workers they use instead.

    Returns
    -------
    list of Step
        In order.

    Raises
    ------
    ParamsError
        If there is neither a prediction nor a scan.
    """
    engine = ("--dask", dask) if dask else ("--workers", str(workers))
    plan = _Plan(params, out, engine)
    words: list[str | Path]
    ct, prediction, paths = inputs.ct, inputs.prediction, out / "paths"
    if inputs.files is not None:
        ct = str(out / "ct.zarr")
        words = ["prepare", inputs.files, ct, "--params", plan.file("prepare")]
        plan.add("prepare", [*words, "--workers", str(workers), "--overwrite"], (), Path(ct))
    if prediction is None:
        if ct is None:
            raise ParamsError("neither a prediction nor a scan is given")
        prediction = str(out / "prediction.zarr")
        words = ["predict", ct, prediction, "--params", plan.file("predict"), "--overwrite"]
        plan.add("predict", [*words, *engine], ("prepare",), Path(prediction))
    common = ("--rng-seed", str(params.rng_seed), *engine)
    words = ["seed", prediction, paths, plan.file("seed"), "--count", str(params.seeds)]
    found = "paths/*"
    plan.add("seed", [*words, "--continue", *common], ("predict",), paths, surfaces=found)
    limits = ("--coverage", str(params.coverage), "--count", str(params.patches))
    words = ["expand", prediction, paths, plan.file("seed"), *limits, *common]
    plan.add("expand", words, ("seed",), paths, surfaces=found)
    add_surface = _add_trace if params.way == "trace" else _add_unroll
    surface = add_surface(plan, prediction, paths)
    last = plan.steps[-1].name
    if ct is not None:
        words = ["render", ct, out / "layers", surface, "--layers", str(params.layers)]
        words += ["--params", plan.file("render"), "--overwrite"]
        words += ["--dask", dask] if dask else ["--threads", str(workers)]
        plan.add("render", words, (last, "prepare"), out / "layers")
    page = out / "check.html"
    words = ["check", paths, *_made_surfaces(params, out), "--prediction", prediction]
    words += ["--params", plan.file("check"), "--html", page, "--report", out / "check.json"]
    words += ["--workers", str(workers)]
    plan.add("check", words, (last,), page, may_fail=True, by_hand=paths)
    return plan.steps


def _made_surfaces(params: RunParams, out: Path) -> list[Path]:
    """Return the patterns of the surfaces that both ways make of the patches."""
    if params.way == "unroll":
        return [out / "unrolled"]
    traces = [out / "traces" / end / "auto_trace_*" for end in _ENDS.values()]
    return [*traces, out / "fused" / "fuse_fill_*", out / "grounded" / "grounding_hr_*"]


def _add_unroll(plan: _Plan, prediction: str, paths: Path) -> Path:
    """Add the steps of one way from patches to a surface; return the surface."""
    surface = plan.out / "unrolled"
    words: list[str | Path] = ["unroll", paths, surface, "--prediction", prediction, "--overwrite"]
    words += ["--params", plan.file("unroll"), *plan.axis()]
    plan.add("unroll", words, ("expand",), surface, by_hand=paths, surfaces="unrolled")
    return surface


def _add_trace(plan: _Plan, prediction: str, paths: Path) -> Path:
    """Add the steps of the other way; return the pattern of its surface."""
    out = plan.out
    words: list[str | Path]
    traces = []
    for name, end in _ENDS.items():
        into = out / "traces" / end
        words = ["trace", prediction, paths, into, plan.file("trace"), paths / LARGEST]
        words += ["--flip-x"] if end == "backward" else []
        words += [] if "both_ways" in plan.params.trace else ["--no-both-ways"]
        pattern = f"traces/{end}/auto_trace_*"
        plan.add(name, words, ("expand",), into, by_hand=paths, replaces=True, surfaces=pattern)
        traces.append(str(out / pattern))
    # exits with 1 where a trace jumps, and says where: it is fused as it is
    words = ["winding", *traces, *plan.axis()]
    plan.add("winding", words, tuple(_ENDS), out / "traces", may_fail=True)
    fused = out / "fused" / "fuse_fill_*"
    words = ["fuse", plan.file("fuse"), *traces, "--out", out / "fused", *plan.axis()]
    plan.add(
        "fuse",
        [*words, *plan.engine],
        ("winding",),
        out / "fused",
        replaces=True,
        surfaces="fused/fuse_fill_*",
    )
    words = ["ground", fused, str(plan.params.scale), *traces, "--out", out / "grounded"]
    plan.add(
        "ground",
        [*words, *plan.engine],
        ("fuse",),
        out / "grounded",
        replaces=True,
        surfaces="grounded/grounding_hr_*",
    )
    return out / "grounded" / "grounding_hr_*"


def resolve(words: Sequence[str], paths: Path) -> list[str]:
    """Return a command line with the names that are known by now.

    Parameters
    ----------
    words : sequence of str
        Of a step.
    paths : Path
        The collection.

    Returns
    -------
    list of str
        Without patterns.

    Raises
    ------
    NothingFoundError
        If a pattern matches nothing.
    """
    found: list[str] = []
    for word in words:
        path = Path(word)
        if path.name == LARGEST:
            found.append(str(largest_patch(paths)))
        elif path.name.endswith("_*"):
            matches = sorted(path.parent.glob(path.name))
            if not matches:
                raise NothingFoundError(f"{word}: nothing was made; see the log of its step")
            found += map(str, matches)
        else:
            found.append(word)
    return found


def largest_patch(paths: Path) -> Path:
    """Return the patch of the largest area that nobody has tagged as defective.

    Parameters
    ----------
    paths : Path
        The collection.

    Returns
    -------
    Path
        Its folder.

    Raises
    ------
    NothingFoundError
        If there is none.
    """
    areas: dict[Path, float] = {}
    for file in sorted(paths.glob("[!.]*/meta.json")):
        meta = json.loads(file.read_text(encoding="utf-8"))
        if "defective" not in (meta.get("tags") or ()):
            areas[file.parent] = float(meta.get("area_vx2") or 0.0)
    if not areas:
        raise NothingFoundError(f"{paths}: no patch to begin with")
    return max(areas, key=lambda path: (areas[path], path.name))


def needs_preparing(path: str) -> bool:
    """Return whether a scan is made of files that are no OME-Zarr.

    Parameters
    ----------
    path : str
        What the user gave.

    Returns
    -------
    bool
        True for tif, NRRD and npy files, and for folders of them.
    """
    local = Path(path)
    if local.is_dir():
        return any(next(local.glob(f"*.{suffix}"), None) for suffix in _ANYTHING_ELSE)
    return local.suffix.lower().lstrip(".") in _ANYTHING_ELSE


def write_params(params: RunParams, out: Path, cache: Path) -> None:
    """Write the parameter files that the steps name.

    Parameters
    ----------
    params : RunParams
        Configuration.
    out : Path
        Folder of the run.
    cache : Path
        Distance field's disk cache, used where the configuration names none.
    """
    from tracer.atomic import write_bytes

    folder = out / PARAMS
    folder.mkdir(parents=True, exist_ok=True)
    for stage in _FILES:
        values = dict(getattr(params, stage))
        if stage == "seed":
            values.setdefault("cache_root", str(cache))
        text = json.dumps(values, indent=1, sort_keys=True) + "\n"
        write_bytes(folder / f"{stage}.json", text.encode())


def until(steps: Sequence[Step], last: str | None) -> list[Step]:
    """Return the steps up to one of them.

    Parameters
    ----------
    steps : sequence of Step
        A plan.
    last : str or None
        Stage to stop after; None for all.

    Returns
    -------
    list of Step
        A beginning of the plan.

    Raises
    ------
    ParamsError
        If the plan has no such stage.
    """
    if last is None:
        return list(steps)
    names = [step.name for step in steps]
    if last not in names:
        raise ParamsError(f"stop-after {last}: this run has only {', '.join(names)}")
    return list(steps[: names.index(last) + 1])
