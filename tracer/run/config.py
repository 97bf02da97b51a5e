"""Configuration of `tracer run`: a preset, and the parameters of every stage over it."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tracer.errors import ParamsError
from tracer.params import Params

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"seeds": 16, "patches": 240, "coverage": 0.8, "layers": 9},
    "normal": {"seeds": 64, "patches": 20_000, "coverage": 0.95, "layers": 21},
    "thorough": {"seeds": 256, "patches": 100_000, "coverage": 0.98, "layers": 65},
}


class RunParams(Params):
    """Parameters of a whole run; those of the stages go to the stages as they are."""

    way: Literal["unroll", "trace"] = Field(
        "unroll",
        description="how patches become one surface: all laid out together (unroll), or traced "
        "from the largest one towards both ends, numbered, fused and grounded (trace)",
    )
    seeds: int = Field(64, ge=1, description="random points at which patches are begun")
    patches: int = Field(20_000, ge=1, description="most patches that expanding adds")
    coverage: float = Field(
        0.95, gt=0, le=1, description="share of the prediction at which expanding stops"
    )
    layers: int = Field(21, ge=1, description="layers that are rendered")
    scale: int = Field(
        2, ge=1, description="way trace: cells of the grounded surface per cell of the fused one"
    )
    umbilicus: str | None = Field(
        None, description="file of the scroll's axis for the stages that need it; estimated without"
    )
    rng_seed: int = Field(1, ge=0, description="makes the run repeatable")
    prepare: dict[str, Any] = Field({}, description="parameters of `tracer prepare`")
    predict: dict[str, Any] = Field({}, description="parameters of `tracer predict`")
    seed: dict[str, Any] = Field({}, description="parameters of `tracer seed` and `expand`")
    unroll: dict[str, Any] = Field({}, description="parameters of `tracer unroll`")
    trace: dict[str, Any] = Field({}, description="parameters of `tracer trace`")
    fuse: dict[str, Any] = Field({}, description="parameters of `tracer fuse`")
    render: dict[str, Any] = Field({}, description="parameters of `tracer render`")
    check: dict[str, Any] = Field({}, description="parameters of `tracer check`")


def load_config(path: Path | None, preset: str, overrides: dict[str, Any]) -> RunParams:
    """Return a configuration: preset, file, command line, the later ones winning.

    Parameters
    ----------
    path : Path or None
        YAML or JSON.
    preset : str
        ``quick``, ``normal`` or ``thorough``.
    overrides : dict
        Values of the command line.

    Returns
    -------
    RunParams
        Validated, the stages' own parameters included.

    Raises
    ------
    ParamsError
        If the preset or the file is unknown or unusable.
    """
    if preset not in PRESETS:
        raise ParamsError(f"preset '{preset}' is unknown; use {', '.join(PRESETS)}")
    where = str(path) if path else "run"
    params = RunParams.from_mapping(
        {**PRESETS[preset], **(_read(path) if path else {}), **overrides}, where=where
    )
    _check_stages(params, where)
    return params


def _check_stages(params: RunParams, where: str) -> None:
    """Refuse a stage's parameters before anything runs, not hours later when it begins."""
    from tracer.check.params import CheckParams
    from tracer.fuse.params import FuseParams
    from tracer.predict.params import PredictParams
    from tracer.prepare_params import PrepareParams
    from tracer.render.params import RenderParams
    from tracer.seed_params import SeedParams
    from tracer.trace.params import TraceParams
    from tracer.unroll.params import UnrollParams

    classes: dict[str, type[Params]] = {
        "prepare": PrepareParams,
        "predict": PredictParams,
        "seed": SeedParams,
        "unroll": UnrollParams,
        "trace": TraceParams,
        "fuse": FuseParams,
        "render": RenderParams,
        "check": CheckParams,
    }
    for stage, kind in classes.items():
        values = dict(getattr(params, stage))
        if stage == "render":
            values["layers"] = params.layers  # as the command line gets it
        kind.from_mapping(values, where=f"{where}: {stage}")


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise ParamsError(f"{path}: cannot read ({error.strerror})") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ParamsError(f"{path}: not valid YAML or JSON ({error})") from error
    if not isinstance(value, dict):
        raise ParamsError(f"{path}: must hold keys and values")
    return value
