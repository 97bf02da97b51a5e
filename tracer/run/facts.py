"""What a step has made: areas of its surfaces, and what the check says of them."""

import json
from pathlib import Path
from typing import Any

from tracer.run.plan import Step

VERDICTS = ("pass", "warn", "fail")
_UM_PER_CM = 1e4


def surfaces_of(step: Step, out: Path) -> list[Path]:
    """Return the surfaces of a step.

    Parameters
    ----------
    step : Step
        The step.
    out : Path
        Folder of the run.

    Returns
    -------
    list of Path
        Those that are finished, sorted.
    """
    if not step.surfaces:
        return []
    found = (path for path in out.glob(step.surfaces) if not path.name.startswith("."))
    return sorted(path for path in found if (path / "meta.json").is_file())


def facts_of(step: Step, out: Path, voxel_size_um: float) -> dict[str, Any]:
    """Return what to keep about a finished step.

    Parameters
    ----------
    step : Step
        The step.
    out : Path
        Folder of the run.
    voxel_size_um : float
        Edge of a voxel.

    Returns
    -------
    dict
        Number of surfaces and their area, where it makes any.
    """
    if not step.surfaces:
        return {}
    surfaces = surfaces_of(step, out)
    area_vx2 = 0.0
    for path in surfaces:
        meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
        area_vx2 += float(meta.get("area_vx2") or 0.0)
    return {
        "surfaces": len(surfaces),
        "area_cm2": round(area_vx2 * (voxel_size_um / _UM_PER_CM) ** 2, 4),
    }


def read_checked(out: Path) -> dict[str, dict[str, Any]]:
    """Return what the check found.

    Parameters
    ----------
    out : Path
        Folder of the run.

    Returns
    -------
    dict
        Verdict, problems and figures per name; empty before the check.
    """
    try:
        report = json.loads((out / "check.json").read_text(encoding="utf-8"))
    except OSError:
        return {}
    return {str(one["name"]): one for one in report["checked"]}


def verdict_of(step: Step, out: Path, checked: dict[str, dict[str, Any]]) -> str:
    """Return what the check says of the surfaces of a step.

    Parameters
    ----------
    step : Step
        The step.
    out : Path
        Folder of the run.
    checked : dict
        Of :func:`read_checked`.

    Returns
    -------
    str
        One verdict, or how many there are of each; empty where nothing was checked.
    """
    found = [
        checked[path.name]["verdict"] for path in surfaces_of(step, out) if path.name in checked
    ]
    if len(found) == 1:
        return str(found[0])
    return ", ".join(f"{found.count(v)} {v}" for v in VERDICTS if v in found)
