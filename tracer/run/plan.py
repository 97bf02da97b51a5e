"""What a run will do: the commands of its steps, in order, with what they read and write."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tracer.run.config import RunParams

PARAMS = "params"  # folder of the stages' parameter files
STAGES = ("predict", "seed", "expand", "unroll", "render", "check")


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
        Whether exit status 1, "nothing acceptable found", ends the run.
    """

    name: str
    words: tuple[str, ...]
    needs: tuple[str, ...]
    writes: Path
    by_hand: Path | None = None
    may_fail: bool = False


def make_plan(
    params: RunParams, out: Path, *, prediction: str | None, ct: str | None, workers: int
) -> list[Step]:
    """Return the steps of a run.

    Parameters
    ----------
    params : RunParams
        Configuration.
    out : Path
        Folder of the run.
    prediction : str or None
        Surface prediction; made from the CT where there is none.
    ct : str or None
        Scan; nothing is rendered without it.
    workers : int
        Processes of the stages that use several.

    Returns
    -------
    list of Step
        In order.
    """
    steps: list[Step] = []
    words: tuple[str, ...]
    paths, files = out / "paths", out / PARAMS
    if prediction is None and ct is not None:
        prediction = str(out / "prediction.zarr")
        words = ("predict", ct, prediction, "--params", str(files / "predict.json"), "--restart")
        steps.append(Step(name="predict", words=words, needs=(), writes=Path(prediction)))
    assert prediction is not None
    seed_file = str(files / "seed.json")
    common = ("--rng-seed", str(params.rng_seed), "--workers", str(workers))
    words = ("seed", prediction, str(paths), seed_file, "--count", str(params.seeds), *common)
    steps.append(Step(name="seed", words=words, needs=("predict",), writes=paths))
    limits = ("--coverage", str(params.coverage), "--count", str(params.patches))
    words = ("expand", prediction, str(paths), seed_file, *limits, *common)
    steps.append(Step(name="expand", words=words, needs=("seed",), writes=paths))
    surface = out / "unrolled"
    words = ("unroll", str(paths), str(surface), "--prediction", prediction, "--overwrite")
    words += ("--params", str(files / "unroll.json"))
    steps.append(Step(name="unroll", words=words, needs=("expand",), writes=surface, by_hand=paths))
    if ct is not None:
        render = ("--layers", str(params.layers), "--params", str(files / "render.json"))
        words = ("render", ct, str(out / "layers"), str(surface), *render, "--overwrite")
        steps.append(Step(name="render", words=words, needs=("unroll",), writes=out / "layers"))
    page = out / "check.html"
    words = ("check", str(surface), "--prediction", prediction, "--html", str(page))
    words += ("--params", str(files / "check.json"))
    steps.append(Step(name="check", words=words, needs=("unroll",), writes=page, may_fail=True))
    return steps


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
    for stage in ("predict", "seed", "unroll", "render", "check"):
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
    """
    if last is None:
        return list(steps)
    names = [step.name for step in steps]
    return list(steps[: names.index(last) + 1]) if last in names else list(steps)
