"""Predictions to grow patches in: the reference phantom, phantoms made here, labels of real sheets.

What has to be made is kept below ``bench/`` and made anew when the code that makes it has changed.
"""

import csv
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import tracer.phantom
from tracer.phantom.generate import PREDICTION, make_phantom
from tracer.phantom.params import PhantomParams
from tracer.phantom.truth import Truth
from tracer.seed import Point

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "bench"
DATA = ROOT.parent / "shared" / "data"
VC3D = DATA / "vc3d"
SHEET_LABELS = DATA / "real" / "scroll1_sheet_labels"


@dataclass(frozen=True, slots=True)
class Input:
    """A prediction and what is known about it.

    Attributes
    ----------
    prediction : Path
        The volume.
    truth : Truth or None
        Exact truth, where there is one.
    labels : Path or None
        Volume of sheet ids, where there is one.
    points : tuple of (x, y, z)
        Seeds; random ones are drawn where it is empty.
    """

    prediction: Path
    truth: Truth | None = None
    labels: Path | None = None
    points: tuple[Point, ...] = ()


def reference() -> Input | None:
    """Return the reference phantom beside the checkout with VC3D's seeds, None where it lacks."""
    if not VC3D.is_dir():
        return None
    rows = (VC3D / "seeds.txt").read_text(encoding="utf-8").splitlines()
    points = [tuple(float(word) for word in row.split()) for row in rows if row.strip()]
    return Input(
        VC3D / "volume" / "pred.zarr",
        truth=Truth.load(VC3D / "truth.json"),
        points=tuple((x, y, z) for x, y, z in points),
    )


def phantom(level: str, size: int) -> Input:
    """Return a phantom of a level, made where it does not lie in the work folder yet."""
    folder = WORK / f"phantom-{level}-{size}-{_digest(Path(tracer.phantom.__file__).parent)}"
    if not (folder / "truth.json").exists():
        params = PhantomParams(size_zyx=(size, size, size), level=level, rng_seed=1)
        make_phantom(folder, params)
    return Input(folder / PREDICTION, truth=Truth.load(folder))


def sheet_labels() -> Input | None:
    """Return the mid-lines of hand-labelled sheets of a real scroll, None where they lack."""
    if not SHEET_LABELS.is_dir():
        return None
    from click.testing import CliRunner

    from tracer.cli.main import tracer as command

    code = hashlib.sha256()
    for name in ("predict", "prepare.py", "pooling.py"):
        code.update(_digest(Path(tracer.phantom.__file__).parents[1] / name).encode())
    folder = WORK / f"sheet-labels-{code.hexdigest()[:8]}"
    labels, prediction = folder / "labels.zarr", folder / "mid_line.zarr"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        options = "--voxel-size-um 7.91 --dtype uint16 --convert keep --pooling nearest"
        for words in (
            f"prepare {SHEET_LABELS} {labels} {options}",
            f"predict from-labels {labels} {prediction} --face mid-line",
        ):
            CliRunner().invoke(command, ["--quiet", *words.split()], catch_exceptions=False)
        (folder / "done").touch()
    return Input(prediction, labels=labels)


def vc3d_cpu_s_per_cm2(kind: str, voxel_size_um: float) -> float:
    """Return VC3D's user and system seconds per area it grew, all its seeds ("warm" or "cold")."""
    with (VC3D / f"seeds_{kind}.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    seconds = sum(float(row["user_s"]) + float(row["sys_s"]) for row in rows)
    area_vx2 = sum(float(row["area_vx2"]) for row in rows)
    return seconds / (area_vx2 * (voxel_size_um * 1e-4) ** 2)


def _digest(path: Path) -> str:
    """Return a short digest of a module or of all modules of a folder."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.glob("*.py")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:8]
