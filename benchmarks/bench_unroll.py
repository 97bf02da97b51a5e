"""Quality and cost of unrolling: reference patches of another tool, and planted jumps.

python -m benchmarks.bench_unroll [--tiny]
"""

import argparse
import json
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tracer.surface import Surface
from tracer.unroll import Patches, UnrollParams, find_suspects, load_patches, unroll
from tracer.unroll.output import component_surface
from tracer.unroll.patches import patch_directories

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "vc3d"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One collection to unroll.

    `n` patches with a share `jumping` of them spliced from two wraps; n = 0: the reference patches.
    """

    name: str
    n: int = 0
    jumping: float = 0.0
    prediction: bool = False
    step: float = 20.0


CASES = (
    Case(name="reference"),
    Case(name="reference, prediction", prediction=True),
    Case(name="reference, prediction, step 10", prediction=True, step=10.0),
    Case(name="250 planted, 10 % jump", n=250, jumping=0.1),
    Case(name="250 planted, 30 % jump", n=250, jumping=0.3),
    Case(name="500 planted, none jump", n=500),
    Case(name="1000 planted, none jump", n=1000),
)
TINY = (Case(name="tiny", n=40, jumping=0.1),)


def planted(truth, n, jumping, seed=1, step=20.0):
    """Return patches cut out of the true recto, some spliced from two wraps, and those names."""
    rng = np.random.default_rng([seed])
    first, last = truth.theta_range
    low, high = truth.z_range
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
    return surfaces, spliced


def run(case):
    """Return the figures of a case."""
    from tracer.phantom import Truth
    from tracer.score import score_surfaces

    truth = Truth.load(SHARED / "truth.json")
    prediction, spliced = None, set()
    if case.n:
        surfaces, spliced = planted(truth, case.n, case.jumping)
        patches = Patches.from_surfaces(surfaces)
    else:
        directories = patch_directories(SHARED / "patches_expanded")
        surfaces = [Surface.load(directory, channels=()) for directory in directories]
        patches = load_patches(directories)
    if case.prediction:
        from tracer.volume import Volume

        prediction = Volume.open(SHARED / "volume" / "pred.zarr")
    params = UnrollParams(step=case.step)
    unroll(Patches.from_surfaces(surfaces[:8]), params, prediction=prediction)  # compile
    started = time.process_time()
    result = unroll(patches, params, prediction=prediction)
    seconds = time.process_time() - started
    scored = score_surfaces([component_surface(result.components[0], {})], truth)
    named = {s.patch for s in find_suspects(result.solved, result) if s.kind != "component"}
    return {
        "vertices": patches.n_vertices,
        "touches": len(result.solved.contacts),
        "coverage_of_patches": round(score_surfaces(surfaces, truth).coverage, 4),
        "coverage": round(scored.coverage, 4),
        "switch_rate": round(scored.switch_rate, 5),
        "distance_median": round(scored.distance_median, 3),
        "distance_p95": round(scored.distance_p95, 3),
        "planted": len(spliced),
        "planted_found": len(spliced & named),
        "cpu_s": round(seconds, 2),
        "cpu_s_per_100k": round(seconds / patches.n_vertices * 1e5, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", help="Name of one case.")
    chosen = parser.parse_args()
    if not SHARED.is_dir():
        sys.exit(f"no reference data at {SHARED}")
    for case in TINY if chosen.tiny else CASES:
        if chosen.only in (None, case.name):
            print(json.dumps({**asdict(case), **run(case)}), flush=True)


if __name__ == "__main__":
    main()
