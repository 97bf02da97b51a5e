"""Optimise all vertices of a patch, or of a window of it, at once.

Relaxing one vertex at a time gets stuck: a vertex cannot reach the sheet's mid-line without its
neighbours. Here all move together, by Levenberg-Marquardt in Ceres on compiled residuals

* distance to the eight neighbours, every pair once,
* straightness of the triples along rows and columns,
* medial distance at the vertices and along the sides of the cells,
* where there are guides, the angles of edges or normals to the axes given along the mesh.

Grids are indexed ``[row, col]``, points are voxels in the order x, y, z.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracer.errors import SurfaceError, TracerWarning
from tracer.kernels.axis_guides import HORIZONTAL, NO_GUIDES, NORMAL, AxisGuides
from tracer.kernels.ceres_blocks import (
    evaluate_direction,
    evaluate_distance,
    evaluate_normal_direction,
    evaluate_straightness,
)
from tracer.kernels.ceres_field_blocks import evaluate_cell, evaluate_data, evaluate_edge
from tracer.kernels.ceres_native import NativeCost, native_cost, native_status
from tracer.kernels.ceres_problem import NativeProblem, SolveOptions, SolveSummary
from tracer.kernels.field_sampling import CHUNK, NOT_LOADED, FieldView

_MARGIN = 1.5  # steps around a vertex that are loaded: one for its edges, one half to move in
_ROUNDS = 3  # solves; another one only where vertices have left the chunks that were loaded
_SOLVER = "cgnr"  # 1.6 to 2.7 times as fast as sparse Cholesky for the same cost, and no BLAS
_RADIUS = 1.0  # of the first step: with Ceres' 10,000 half of the first ten steps are rejected

Columns = tuple[NDArray[np.int64], ...]


class LoadableField(Protocol):
    """The part of a :class:`~tracer.distance_field.DistanceField` that is needed."""

    def ensure(self, chunks: ArrayLike) -> None:
        """Load chunks, (n, 3) z, y, x."""

    def view(self) -> FieldView:
        """Return what is loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JointWeights:
    """Weights and constants of a joint optimisation.

    Attributes
    ----------
    distance : float
        Weight of the distances to the neighbours.
    straightness : float
        Weight of the straightness.
    data : float
        Weight of the medial distance at a vertex, per voxel.
    edge_data : float
        Weight of its mean along a side, per voxel.
    edge_samples : int
        Interior samples per side; five do as well as nineteen.
    depth : float
        Depth of the mid-line below the sheet's boundary, voxels: half the sheet's thickness,
        which is three to six in predictions.
    """

    distance: float = 1.0
    straightness: float = 0.5
    data: float = 0.1
    edge_data: float = 0.1
    edge_samples: int = 5
    depth: float = 2.5

    def __post_init__(self) -> None:
        """Refuse weights that would give nonsense."""
        for name in ("distance", "straightness", "data", "edge_data", "depth"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} is {value}; it must be finite and not negative")
        if self.edge_samples < 1:
            raise ValueError(f"edge_samples is {self.edge_samples}; it must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class JointReport:
    """What a joint optimisation did.

    Attributes
    ----------
    initial_cost : float
        Half the sum of squared residuals before, over all blocks with a free vertex.
    final_cost : float
        The same after.
    n_free : int
        Vertices that could move.
    n_blocks : int
        Residual blocks given to Ceres.
    n_steps : int
        Steps taken.
    n_rejected : int
        Steps tried and not taken.
    rounds : int
        Solves: more than one where vertices left the loaded part of the field.
    converged : bool
        Whether the cost had stopped falling.
    """

    initial_cost: float
    final_cost: float
    n_free: int
    n_blocks: int
    n_steps: int
    n_rejected: int
    rounds: int
    converged: bool

    def summary(self) -> str:
        """Return one line about the optimisation.

        Returns
        -------
        str
            Vertices, steps and cost.
        """
        return (
            f"{self.n_free} vertices, {self.n_steps} steps, "
            f"cost {self.initial_cost:.4g} -> {self.final_cost:.4g}"
        )


def optimise_patch(
    points_xyz: NDArray[np.floating[Any]],
    valid: NDArray[np.bool_],
    field: LoadableField | FieldView,
    step: float,
    *,
    weights: JointWeights | None = None,
    fixed: NDArray[np.bool_] | None = None,
    guides: AxisGuides = NO_GUIDES,
    iterations: int = 20,
    num_threads: int = 1,
) -> tuple[NDArray[np.float64], JointReport]:
    """Return a patch whose vertices have moved together towards the sheet's mid-line.

    Parameters
    ----------
    points_xyz : ndarray of float, shape (rows, cols, 3)
        Vertices in voxels: a whole patch or a window of one.
    valid : ndarray of bool, shape (rows, cols)
        Vertices that exist.
    field : DistanceField or FieldView
        Signed distance to the prediction. A field loads the chunks it needs, all at once; of a
        view only the loaded ones are used.
    step : float
        Wanted distance between neighbours, voxels.
    weights : JointWeights, optional
        Weights and constants.
    fixed : ndarray of bool, shape (rows, cols), optional
        Vertices that stay where they are. The border of a window needs two such rings.
    guides : AxisGuides, optional
        Axes that edges or normals should follow, on the same grid.
    iterations : int
        Most steps to take. Ten give most of what there is, twenty nearly all.
    num_threads : int
        Threads of Ceres. With more than one the last bits of the result vary from run to run.

    Returns
    -------
    points_xyz : ndarray of float64, shape (rows, cols, 3)
        Vertices; those that are invalid or fixed are as they were.
    report : JointReport
        What happened.

    Raises
    ------
    SurfaceError
        If the shapes do not belong together or a valid vertex is not finite.

    Notes
    -----
    Costs about 0.1 ms per vertex and ten steps. The result does not depend on what else is loaded.
    """
    weights = weights or JointWeights()
    points, free = _checked(points_xyz, valid, step, fixed)
    vertices = np.ascontiguousarray(points[valid])
    options = SolveOptions(
        max_iterations=iterations,
        linear_solver=_SOLVER,
        num_threads=num_threads,
        initial_radius=_RADIUS,
    )
    solves: list[SolveSummary] = []
    while free.any() and len(solves) < _ROUNDS:
        if isinstance(field, FieldView):
            view = field
        else:
            field.ensure(_chunks_around(vertices, _MARGIN * step))
            view = field.view()
        problem = _build(vertices, valid, free, view, step, weights)
        _add_guides(problem, vertices, valid, free, guides)
        solves.append(problem.solve(options))
        if isinstance(field, FieldView) or _is_loaded(vertices, view, step):
            break
    points[valid] = vertices
    return points, JointReport(
        initial_cost=solves[0].initial_cost if solves else 0.0,
        final_cost=solves[-1].final_cost if solves else 0.0,
        n_free=int(free.sum()),
        n_blocks=solves[-1].n_blocks if solves else 0,
        n_steps=sum(solve.n_steps for solve in solves),
        n_rejected=sum(solve.n_rejected for solve in solves),
        rounds=len(solves),
        converged=all(solve.converged for solve in solves),
    )


def _checked(
    points_xyz: NDArray[np.floating[Any]],
    valid: NDArray[np.bool_],
    step: float,
    fixed: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return a copy of the points and the mask of the vertices that may move."""
    points = np.array(points_xyz, dtype=np.float64, order="C")
    if points.ndim != 3 or points.shape[2] != 3 or valid.shape != points.shape[:2]:
        raise SurfaceError(f"points {points.shape} and valid {valid.shape} are not one grid")
    if fixed is not None and fixed.shape != valid.shape:
        raise SurfaceError(f"fixed {fixed.shape} and valid {valid.shape} are not one grid")
    if not (np.isfinite(step) and step > 0.0):
        raise SurfaceError(f"the step is {step}; it must be positive")
    if not np.isfinite(points[valid]).all():
        row, col = np.argwhere(valid & ~np.isfinite(points).all(axis=2))[0]
        raise SurfaceError(f"valid vertex ({row}, {col}) is not finite: {points[row, col]}")
    return points, valid.copy() if fixed is None else valid & ~fixed


def _build(
    vertices: NDArray[np.float64],
    valid: NDArray[np.bool_],
    free: NDArray[np.bool_],
    view: FieldView,
    step: float,
    weights: JointWeights,
) -> NativeProblem:
    """Return the least-squares problem over the valid vertices of a grid, in row order."""
    costs = _costs(view, step, weights)
    problem = NativeProblem()
    can_move = free[valid]
    for name, columns in _residual_blocks(valid):
        kept = np.zeros(len(columns[0]), dtype=np.bool_)
        for column in columns:
            kept |= can_move[column]
        problem.add_blocks(costs[name], *((vertices, column[kept]) for column in columns))
    problem.fix_blocks(vertices, np.flatnonzero(~can_move))
    return problem


def _add_guides(
    problem: NativeProblem,
    vertices: NDArray[np.float64],
    valid: NDArray[np.bool_],
    free: NDArray[np.bool_],
    guides: AxisGuides,
) -> None:
    """Add the residuals of the guides; their axes are those of the first vertex that knows one."""
    index = np.full(valid.shape, -1, dtype=np.int64)
    index[valid] = np.arange(len(vertices))
    can_move = free[valid]
    for number, kind in enumerate(guides.kinds.tolist()):
        axes = guides.axes[..., number, :][valid].astype(np.float64)
        if kind == NORMAL:
            columns = _chosen(None, index[:-1, :-1], index[:-1, 1:], index[1:, :-1])
        elif kind == HORIZONTAL:
            columns = _chosen(None, index[:, :-1], index[:, 1:])
        else:
            columns = _chosen(None, index[:-1], index[1:])
        axis = axes[columns[0]]
        for column in columns[1:]:
            unknown = ~axis.any(axis=1)
            axis[unknown] = axes[column[unknown]]
        kept = axis.any(axis=1) & np.any([can_move[column] for column in columns], axis=0)
        axis = np.ascontiguousarray(axis[kept])
        cost = native_cost(
            evaluate_normal_direction if kind == NORMAL else evaluate_direction,
            1,
            (3,) * (len(columns) + 1),
            (float(guides.weights[number]),),
            native=not native_status(),
        )
        at = np.arange(len(axis))
        problem.add_blocks(cost, *((vertices, column[kept]) for column in columns), (axis, at))
        problem.fix_blocks(axis, at)
    problem.fix_blocks(vertices, np.flatnonzero(~can_move))


def _costs(view: FieldView, step: float, weights: JointWeights) -> dict[str, NativeCost]:
    """Return the cost functions of a patch; each serves all blocks of its kind."""
    status = native_status()
    if status:
        _warn_slow(status)
    native = not status
    arrays = (view.pool, view.table, view.shape_zyx)
    field = (view.cap, weights.depth)
    side = (step, weights.distance, weights.edge_samples, weights.edge_data)
    diagonal = (step * 2.0**0.5, weights.distance)
    straight = (weights.straightness,)
    vertex = (*field, weights.data)
    return {
        "cell": native_cost(
            evaluate_cell, 7, (3,) * 4, (*field, *side, weights.data), arrays, native=native
        ),
        "edge": native_cost(evaluate_edge, 2, (3, 3), (*field, *side), arrays, native=native),
        "vertex": native_cost(evaluate_data, 1, (3,), vertex, arrays, native=native),
        "diagonal": native_cost(evaluate_distance, 1, (3, 3), diagonal, native=native),
        "triple": native_cost(evaluate_straightness, 1, (3,) * 3, straight, native=native),
    }


@cache
def _warn_slow(reason: str) -> None:
    warnings.warn(
        f"joint optimisation evaluates residuals through Python, about 100 times slower: {reason}",
        TracerWarning,
        stacklevel=4,
    )


def _residual_blocks(valid: NDArray[np.bool_]) -> Iterator[tuple[str, Columns]]:
    """Yield the kinds of residual blocks with the vertices of each, counted in row order.

    A full cell holds its first vertex, its first row and column side and both diagonals: three
    blocks per vertex instead of nine, at the same fill-in. The rest of those lies at borders.
    """
    index = np.full(valid.shape, -1, dtype=np.int64)
    index[valid] = np.arange(np.count_nonzero(valid))
    full = np.zeros(valid.shape, dtype=np.bool_)
    full[:-1, :-1] = valid[:-1, :-1] & valid[:-1, 1:] & valid[1:, :-1] & valid[1:, 1:]
    in_cell = full[:-1, :-1]
    first, right = index[:-1, :-1], index[:-1, 1:]
    below, opposite = index[1:, :-1], index[1:, 1:]
    yield "cell", _chosen(in_cell, first, right, below, opposite)
    yield "edge", _chosen(~full[:, :-1], index[:, :-1], index[:, 1:])
    yield "edge", _chosen(~full[:-1], index[:-1], index[1:])
    yield "diagonal", _chosen(~in_cell, first, opposite)
    yield "diagonal", _chosen(~in_cell, right, below)
    yield "vertex", _chosen(~full, index)
    yield "triple", _chosen(None, index[:, :-2], index[:, 1:-1], index[:, 2:])
    yield "triple", _chosen(None, index[:-2], index[1:-1], index[2:])


def _chosen(mask: NDArray[np.bool_] | None, *columns: NDArray[np.int64]) -> Columns:
    """Return the entries of index arrays where the mask holds and all vertices exist."""
    kept = np.ones(columns[0].shape, dtype=np.bool_) if mask is None else mask
    for column in columns:
        kept = kept & (column >= 0)
    return tuple(column[kept] for column in columns)


def _chunks_around(vertices: NDArray[np.float64], margin: float) -> NDArray[np.int64]:
    """Return the chunks, (n, 3) z, y, x, that boxes of a half-width around vertices overlap."""
    low = np.floor((vertices[:, ::-1] - margin) / CHUNK).astype(np.int64)
    high = np.floor((vertices[:, ::-1] + margin) / CHUNK).astype(np.int64)
    corners = [
        np.where(np.array(corner, dtype=np.bool_), high, low) for corner in np.ndindex(2, 2, 2)
    ]
    return np.unique(np.concatenate(corners), axis=0)  # sorted: loading order is fixed


def _is_loaded(vertices: NDArray[np.float64], view: FieldView, margin: float) -> bool:
    """Return whether all chunks around vertices are loaded, as far as they are in the volume."""
    chunks = _chunks_around(vertices, margin)
    inside = ((chunks >= 0) & (chunks < view.table.shape)).all(axis=1)
    return not (view.table[tuple(chunks[inside].T)] == NOT_LOADED).any()
