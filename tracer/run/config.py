"""Configuration of `tracer run`: a preset, and the parameters of every stage over it."""

import json
from pathlib import Path
from typing import Any

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

    seeds: int = Field(64, ge=1, description="random points at which patches are begun")
    patches: int = Field(20_000, ge=1, description="most patches that expanding adds")
    coverage: float = Field(
        0.95, gt=0, le=1, description="share of the prediction at which expanding stops"
    )
    layers: int = Field(21, ge=1, description="layers that are rendered")
    rng_seed: int = Field(1, ge=0, description="makes the run repeatable")
    predict: dict[str, Any] = Field({}, description="parameters of `tracer predict`")
    seed: dict[str, Any] = Field({}, description="parameters of `tracer seed` and `expand`")
    unroll: dict[str, Any] = Field({}, description="parameters of `tracer unroll`")
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
        Validated.

    Raises
    ------
    ParamsError
        If the preset or the file is unknown or unusable.
    """
    if preset not in PRESETS:
        raise ParamsError(f"preset '{preset}' is unknown; use {', '.join(PRESETS)}")
    return RunParams.from_mapping(
        {**PRESETS[preset], **(_read(path) if path else {}), **overrides},
        where=str(path) if path else "run",
    )


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
