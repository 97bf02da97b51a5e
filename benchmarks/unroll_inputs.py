"""Collections to unroll: planted on a phantom's recto, VC3D's, grown on phantoms and real data.

Grown patches are kept below ``bench/`` and grown anew when they are not there.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import growth_inputs
from benchmarks.battery import battery
from benchmarks.growth_inputs import VC3D, WORK
from tracer.expand import ExpandLimits, expand
from tracer.phantom import Truth
from tracer.seed import seed
from tracer.seed_params import SeedParams
from tracer.surface import Surface
from tracer.unroll.patches import patch_directories
from tracer.volume import Volume

# Growth without its defences: mergers, steep and folded vertices and slips are followed.
UNDEFENDED = {"max_thick": 9, "max_tilt": 1.0, "max_turn": 1.0, "max_slip": 1.0, "max_rough": 99.0}


@dataclass(frozen=True, slots=True)
class Collection:
    """Patches and what is known about them.

    Attributes
    ----------
    surfaces : list of Surface
        The patches.
    truth : Truth or None
        Exact truth, where there is one.
    prediction : Path or None
        The prediction they lie on.
    labels : Path or None
        Volume of sheet ids.
    spliced : frozenset of str
        Patches into which a jump was planted.
    """

    surfaces: list[Surface]
    truth: Truth | None = None
    prediction: Path | None = None
    labels: Path | None = None
    spliced: frozenset[str] = frozenset()


def vc3d() -> Collection:
    """Return VC3D's 248 patches of the reference phantom."""
    return Collection(
        load(VC3D / "patches_expanded"),
        truth=Truth.load(VC3D / "truth.json"),
        prediction=VC3D / "volume" / "pred.zarr",
    )


def load(paths: Path) -> list[Surface]:
    """Return the surfaces of a collection."""
    return [Surface.load(directory, channels=()) for directory in patch_directories(paths)]


def tall(truth: Truth, times: float) -> Truth:
    """Return a truth of which the sheet is some times as high."""
    first, last = truth.z_range
    return dataclasses.replace(truth, z_range=(first, first + times * (last - first)))


def grown(
    level: str, count: int, *, defended: bool = True, min_area_cm: float = 0.02
) -> Collection:
    """Return patches grown on a phantom of 384³, or what else ``level`` names."""
    named = {
        "reference": growth_inputs.reference,
        "labels": growth_inputs.sheet_labels,
        "battery": battery,
    }
    given = named[level]() if level in named else growth_inputs.phantom(level, 384)
    if given is None:
        raise FileNotFoundError(f"no data for {level}")
    kind = "defended" if defended else "undefended"
    paths = WORK / f"paths-{level}-{count}-{kind}-{min_area_cm:g}"
    if not (paths / "done").exists():
        values = {"cache_root": str(WORK / "cache"), "generations": 30, "rng_seed": 1}
        values |= {"min_area_cm": min_area_cm, "tgt_overlap_count": 10}
        values |= {"step_size": 10} if level == "battery" else {}  # it is 70 voxels high
        params = SeedParams.from_mapping(values if defended else {**values, **UNDEFENDED})
        volume = Volume.open(given.prediction)
        if given.points:
            seed(volume, paths, params, points=given.points)
        else:
            seed(volume, paths, params, count=60 if level == "labels" else 24)
        expand(volume, paths, params, ExpandLimits(count=max(count - len(load(paths)), 1)))
        (paths / "done").write_text(json.dumps(params.effective()), encoding="utf-8")
    return Collection(
        load(paths), truth=given.truth, prediction=given.prediction, labels=given.labels
    )


def planted(
    truth: Truth,
    n: int,
    *,
    jumping: float = 0.0,
    missing: float = 0.0,
    gap: float = 0.0,
    seed: int = 1,
    step: float = 20.0,
) -> Collection:
    """Return patches cut out of the true recto.

    A share ``jumping`` is spliced from two wraps. Discs of radius ``missing`` (voxels, on the
    sheet) are left out, a third of the sheet in all; as is a belt of height ``gap`` half way up.
    """
    rng = np.random.default_rng([seed])
    first, last = truth.theta_range
    low, high = truth.z_range
    begin, end = (float(truth.arc_of_theta(theta)) for theta in (first, last))
    discs = np.empty((0, 2))
    if missing:
        n_discs = int((end - begin) * (high - low) / (3 * np.pi * missing**2)) or 1
        discs = rng.uniform((begin, low), (end, high), (n_discs, 2))
    surfaces, spliced = [], set()
    for k in range(n):
        rows, cols = rng.integers(8, 22), rng.integers(10, 30)
        theta, height = rng.uniform(first + 0.2, last - 0.5), rng.uniform(low + 8, high - 8)
        angle, ramp = rng.uniform(0, np.pi), rng.integers(1, 4)
        down, right = np.meshgrid(
            (np.arange(rows) - rows / 2) * step, (np.arange(cols) - cols / 2) * step, indexing="ij"
        )
        arc = truth.arc_of_theta(theta) + np.cos(angle) * right - np.sin(angle) * down
        z = height + np.sin(angle) * right + np.cos(angle) * down
        at = truth.theta_of_arc(np.maximum(arc, truth.arc_of_theta(first)))
        points = truth.point(at, z)
        valid = (at > first) & (at < last) & (z > low) & (z < high)
        valid &= np.abs(z - 0.5 * (low + high)) >= 0.5 * gap
        for disc_arc, disc_z in discs:
            valid &= (arc - disc_arc) ** 2 + (z - disc_z) ** 2 > missing**2
        jumps = rng.random() < jumping
        if jumps:
            share = np.clip((np.arange(cols) - cols / 2) / ramp, 0, 1)[None, :, None]
            beyond = truth.point(np.minimum(at + 2 * np.pi, last), z)
            points = (1 - share) * points + share * beyond
            valid &= at + 2 * np.pi < last
        points = points + rng.normal(0, 0.3, points.shape)
        if valid.sum() >= 30:
            name = f"planted_{k:05d}"
            spliced |= {name} if jumps else set()
            surfaces.append(
                Surface(
                    points_xyz=np.where(valid[..., None], points, -1).astype(np.float32),
                    valid=valid,
                    scale=(1 / step, 1 / step),
                    meta={"uuid": name},
                )
            )
    return Collection(surfaces, truth=truth, spliced=frozenset(spliced))
