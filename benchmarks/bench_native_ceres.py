"""What compiled residuals cost inside Ceres, against Python callbacks, and what they buy.

Run: python -m benchmarks.bench_native_ceres [--tiny]

The mesh cases build a wavy grid over a flat sheet. The patch case needs the reference phantom
beside the checkout: VC3D's seeded patches are optimised jointly and, for comparison, vertex by
vertex; distances are to the true recto.
"""

import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyceres

from tracer.joint_optimisation import optimise_patch
from tracer.kernels.ceres_blocks import evaluate_distance
from tracer.kernels.ceres_native import native_cost
from tracer.kernels.ceres_problem import NativeProblem
from tracer.kernels.field_sampling import CHUNK, FieldView

VC3D = Path(__file__).resolve().parents[2] / "shared" / "data" / "vc3d"
STEP = 20.0


@dataclass(frozen=True, slots=True)
class Case:
    """One input.

    Attributes
    ----------
    name : str
        "mesh" or "patches".
    side : int
        Vertices along each side of the mesh, or most patches to take.
    repeats : int
        Runs, of which the median counts.
    """

    name: str
    side: int
    repeats: int = 5


CASES = (Case("mesh", 120), Case("patches", 20, 1))
TINY = (Case("mesh", 6, 1),)


def run(case: Case) -> dict[str, float]:
    """Return the figures of a case."""
    return _mesh(case) if case.name == "mesh" else _patches(case)


def _grid(side):
    rng = np.random.default_rng(0)
    rows, cols = np.meshgrid(np.arange(side) * STEP, np.arange(side) * STEP, indexing="ij")
    points = np.stack([cols, rows, np.full_like(rows, 60.0)], axis=-1) + 5.0
    return points + rng.normal(size=points.shape)


def _flat_field(extent):
    """Return a field of one flat sheet at z = 60, the same chunk everywhere."""
    chunks = int(extent // CHUNK) + 1
    z = np.arange(CHUNK + 1)
    codes = (np.round(8.0 * np.clip(np.abs(z - 60.0) - 2.0, -8.0, 16.0)) + 64.0).astype(np.uint8)
    pool = np.ascontiguousarray(np.broadcast_to(codes[:, None, None], (1, *(CHUNK + 1,) * 3)))
    shape = np.array([CHUNK, chunks * CHUNK, chunks * CHUNK], dtype=np.int64)
    return FieldView(pool, np.zeros((1, chunks, chunks), dtype=np.int32), shape, 16.0)


def _distances(points, native):
    """Return the problem of all distances of neighbours, sides and one diagonal."""
    side = points.shape[0]
    index = np.arange(side * side).reshape(side, side)
    rows = np.ascontiguousarray(points.reshape(-1, 3))
    problem = NativeProblem()
    for target, first, second in (
        (STEP, index[:-1], index[1:]),
        (STEP, index[:, :-1], index[:, 1:]),
        (STEP * 2.0**0.5, index[:-1, :-1], index[1:, 1:]),
    ):
        cost = native_cost(evaluate_distance, 1, (3, 3), (target, 1.0), native=native)
        problem.add_blocks(cost, (rows, first.ravel()), (rows, second.ravel()))
    return problem


def _solve_times(problem, iterations):
    """Return Ceres' own clock: seconds per evaluation of residuals, and with Jacobians."""
    options, summary = pyceres.SolverOptions(), pyceres.SolverSummary()
    options.max_num_iterations = iterations
    options.linear_solver_type = pyceres.LinearSolverType.CGNR
    options.logging_type = pyceres.LoggingType.SILENT
    pyceres.solve(options, problem._problem, summary)
    return (
        summary.residual_evaluation_time_in_seconds / max(summary.num_residual_evaluations, 1),
        summary.jacobian_evaluation_time_in_seconds / max(summary.num_jacobian_evaluations, 1),
    )


def _mesh(case):
    points = _grid(case.side)
    view = _flat_field(points.max() + 50.0)
    valid = np.ones(points.shape[:2], dtype=np.bool_)
    optimise_patch(points[:4, :4], valid[:4, :4], view, STEP, iterations=1)  # compile
    _distances(points[:3, :3], native=False).residuals()
    rows = {}
    for _ in range(case.repeats):
        for native in (True, False):
            name = "native" if native else "callback"
            start = time.process_time()
            problem = _distances(points, native)
            built = time.process_time() - start
            residuals, jacobians = _solve_times(problem, 4)
            figures = {
                "build_us": 1e6 * built / problem.n_blocks,
                "residual_us": 1e6 * residuals / problem.n_blocks,
                "jacobian_us": 1e6 * jacobians / problem.n_blocks,
            }
            for key, value in figures.items():
                rows.setdefault(f"{name} {key} per block", []).append(value)
        start = time.process_time()
        _, report = optimise_patch(points, valid, view, STEP, iterations=10)
        joint = time.process_time() - start
        rows.setdefault("joint ms per vertex", []).append(1e3 * joint / valid.sum())
        rows.setdefault("joint blocks per vertex", []).append(report.n_blocks / valid.sum())
    table = {key: statistics.median(values) for key, values in rows.items()}
    for key in ("residual_us", "jacobian_us"):
        callback, native = (table[f"{name} {key} per block"] for name in ("callback", "native"))
        table[f"callback / native {key}"] = callback / native
    return table


def _relaxed(points, valid, view, sweeps, depth):
    """Return the patch after relaxation of one vertex at a time, in a 4-colouring."""
    from tracer.kernels.growth_grid import WORK_ROWS, PatchGrid
    from tracer.kernels.growth_settling import relax
    from tracer.kernels.placement import ON_SHEET, PlacementWeights

    border = 4
    inner = np.s_[border:-border, border:-border]
    shape = (valid.shape[0] + 2 * border, valid.shape[1] + 2 * border)
    grid = PatchGrid(
        points=np.zeros((*shape, 3)),
        normals=np.zeros((*shape, 3)),
        state=np.zeros(shape, np.uint8),
        generation=np.zeros(shape, np.int32),
        cost=np.zeros(shape),
        confidence=np.zeros(shape),
        tilt=np.zeros(shape),
    )
    grid.points[inner][valid] = points[valid]
    grid.state[inner][valid] = ON_SHEET
    box = (border, shape[0] - border - 1, border, shape[1] - border - 1)
    weights = PlacementWeights(STEP, 0.5, 0.1, depth, 5)
    relax(grid, box, 0, view, weights, sweeps, np.zeros((WORK_ROWS, 9)))
    return grid.points[inner]


def _patches(case):
    from tracer.distance_field import DistanceField
    from tracer.phantom.truth import Truth
    from tracer.surface import Surface
    from tracer.volume import Volume

    if not VC3D.is_dir():
        return {}
    field = DistanceField(Volume.open(VC3D / "volume" / "pred.zarr"))
    truth = Truth.load(VC3D / "truth.json")
    depth = 2.0  # what relaxation does best with: at 2.5 it stops at 0.9 voxel
    kinds = {
        "stored": lambda points, valid: points,
        "relaxed 2 sweeps": lambda points, valid: _relaxed(points, valid, field.view(), 2, depth),
        "relaxed 10 sweeps": lambda points, valid: _relaxed(points, valid, field.view(), 10, depth),
        "joint 10": lambda points, valid: optimise_patch(points, valid, field, STEP, iterations=10)[
            0
        ],
        "joint 20": lambda points, valid: optimise_patch(points, valid, field, STEP)[0],
    }
    table = {}
    surfaces = [Surface.load(path) for path in sorted((VC3D / "patches_seeded").iterdir())]
    for surface in surfaces:  # the relaxation uses what is loaded
        field.ensure_box(surface.bbox_xyz[0] - 2.0 * STEP, surface.bbox_xyz[1] + 2.0 * STEP)
    for name, optimise in kinds.items():
        for _ in range(2):  # the first one compiles and loads
            distances, spent, count = [], 0.0, 0
            for surface in surfaces[: case.side]:
                points = surface.points_xyz.astype(np.float64)
                start = time.process_time()
                moved = optimise(points, surface.valid)
                spent += time.process_time() - start
                count += int(surface.valid.sum())
                distances.append(truth.distance(moved[surface.valid]))
        merged = np.abs(np.concatenate(distances))
        table[f"{name}: ms per vertex"] = 1e3 * spent / count
        table[f"{name}: median distance"] = float(np.median(merged))
        table[f"{name}: p95 distance"] = float(np.percentile(merged, 95))
    return table


def main() -> None:
    """Print the figures of all cases."""
    for case in TINY if "--tiny" in sys.argv else CASES:
        for figure, value in run(case).items():
            print(f"{case.name} {case.side}: {figure:40s} {value:10.4f}")


if __name__ == "__main__":
    main()
