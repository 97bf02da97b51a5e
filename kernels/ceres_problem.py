"""Least-squares problems for Ceres that are built in bulk from arrays.

Parameter blocks are the rows of float64 arrays; Ceres changes them in place. A problem keeps its
arrays, cost functions and losses alive for as long as Ceres may use them.
"""

from typing import Any, NamedTuple

import numpy as np
import pyceres
from numpy.typing import NDArray

from tracer.kernels.ceres_native import NativeCost

Blocks = tuple[NDArray[np.float64], NDArray[np.int64]]
"""An array of shape (n, size) and the rows of it that the residual blocks use, one for each."""

_LOSSES = {"huber": pyceres.HuberLoss, "cauchy": pyceres.CauchyLoss}


class SolveOptions(NamedTuple):
    """How Ceres solves.

    Attributes
    ----------
    max_iterations : int
        Most steps to take.
    linear_solver : str
        Ceres' name in lower case, e.g. ``sparse_normal_cholesky`` or ``cgnr``.
    num_threads : int
        Threads; more than one changes the order of sums and so the last bits of the result.
    function_tolerance : float
        Relative change of the cost below which the solution counts as found.
    gradient_tolerance : float
        Largest entry of the gradient below which it does.
    parameter_tolerance : float
        Relative length of a step below which it does.
    initial_radius : float
        Radius of the trust region of the first step; large means a plain Gauss-Newton step.
    """

    max_iterations: int = 50
    linear_solver: str = "sparse_normal_cholesky"
    num_threads: int = 1
    function_tolerance: float = 1e-6
    gradient_tolerance: float = 1e-10
    parameter_tolerance: float = 1e-8
    initial_radius: float = 1e4


class SolveSummary(NamedTuple):
    """What Ceres did.

    Attributes
    ----------
    initial_cost : float
        Half the sum of squared residuals before, fixed blocks included.
    final_cost : float
        The same after.
    n_steps : int
        Steps that were taken.
    n_rejected : int
        Steps that were tried and not taken.
    n_blocks : int
        Residual blocks.
    n_residuals : int
        Residuals.
    converged : bool
        Whether a tolerance was reached.
    usable : bool
        Whether the arrays hold a solution no worse than the start.
    message : str
        Ceres' reason for stopping.
    """

    initial_cost: float
    final_cost: float
    n_steps: int
    n_rejected: int
    n_blocks: int
    n_residuals: int
    converged: bool
    usable: bool
    message: str


class NativeProblem:
    """A problem of residual blocks over the rows of arrays.

    Examples
    --------
    >>> problem = NativeProblem()
    >>> problem.add_blocks(cost, (points, first), (points, second))
    >>> problem.fix_blocks(points, frozen)
    >>> problem.solve(SolveOptions(max_iterations=20))
    """

    def __init__(self) -> None:
        self._problem = pyceres.Problem()
        self._rows: dict[int, tuple[NDArray[np.float64], list[NDArray[np.float64]]]] = {}
        self._costs: list[NativeCost] = []
        self._losses: dict[tuple[str, float], Any] = {}

    def add_blocks(
        self, cost: NativeCost, *columns: Blocks, loss: str | None = None, loss_scale: float = 1.0
    ) -> None:
        """Add one residual block for every row of the given index arrays.

        Parameters
        ----------
        cost : NativeCost
            Serves all of them.
        *columns : tuple of ndarray
            For each parameter block of the cost: an array of float64, shape (n, size), used in
            place, and the row of it for each residual block. The rows of one residual block must
            differ.
        loss : {"huber", "cauchy"}, optional
            Robust loss over each residual block.
        loss_scale : float
            Residual at which the loss starts to bend.
        """
        if len(columns) != len(cost.block_sizes):
            raise ValueError(f"the cost has {len(cost.block_sizes)} blocks, not {len(columns)}")
        chosen = []
        for (values, index), size in zip(columns, cost.block_sizes, strict=True):
            rows = self._row_views(values, size)
            chosen.append([rows[i] for i in index.tolist()])
        bent = self._loss(loss, loss_scale)
        blocks = [list(row) for row in zip(*chosen, strict=True)]
        self._costs.append(cost)
        add, ceres = self._problem.add_residual_block, cost.ceres
        for block in blocks:
            add(ceres, bent, block)

    def fix_blocks(self, values: NDArray[np.float64], rows: NDArray[np.int64]) -> None:
        """Hold rows of an array where they are; rows that no residual uses are skipped.

        Parameters
        ----------
        values : ndarray of float64, shape (n, size)
            An array given to :meth:`add_blocks`.
        rows : ndarray of int64
            Rows to fix.
        """
        views = self._row_views(values, values.shape[1])
        for row in rows.tolist():
            if self._problem.has_parameter_block(views[row]):
                self._problem.set_parameter_block_constant(views[row])

    @property
    def n_blocks(self) -> int:
        """Number of residual blocks.

        Returns
        -------
        int
            All blocks, those of fixed rows included.
        """
        return int(self._problem.num_residual_blocks())

    def residuals(self) -> NDArray[np.float64]:
        """Return all residuals at the present values, without losses, in the order of adding.

        Returns
        -------
        ndarray of float64, shape (n_residuals,)
            All residuals, those of fixed rows included.
        """
        options = pyceres.EvaluateOptions()
        options.apply_loss_function = False
        return np.asarray(self._problem.evaluate_residuals(options), dtype=np.float64)

    def jacobian(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return the Jacobian at the present values, without losses.

        Returns
        -------
        tuple of ndarray
            Residual, parameter and derivative of each entry; parameters are counted over all rows
            in the order of their first use, and fixed ones have no entries.
        """
        options = pyceres.EvaluateOptions()
        options.apply_loss_function = False
        rows, cols, values = self._problem.evaluate_jacobian(options).to_tuple()
        return (
            np.asarray(rows, dtype=np.int64),
            np.asarray(cols, dtype=np.int64),
            np.asarray(values, dtype=np.float64),
        )

    def solve(self, options: SolveOptions | None = None) -> SolveSummary:
        """Minimise the sum of squares by Levenberg-Marquardt, in place.

        Parameters
        ----------
        options : SolveOptions, optional
            How to solve.

        Returns
        -------
        SolveSummary
            What happened. Where no solution is usable the arrays keep their values.
        """
        options = options or SolveOptions()
        summary = pyceres.SolverSummary()
        pyceres.solve(_solver_options(options), self._problem, summary)
        return SolveSummary(
            initial_cost=float(summary.initial_cost),
            final_cost=float(summary.final_cost),
            n_steps=max(int(summary.num_successful_steps) - 1, 0),  # Ceres counts the start
            n_rejected=int(summary.num_unsuccessful_steps),
            n_blocks=int(summary.num_residual_blocks),
            n_residuals=int(summary.num_residuals),
            converged=summary.termination_type == pyceres.TerminationType.CONVERGENCE,
            usable=bool(summary.IsSolutionUsable()),
            message=str(summary.message),
        )

    def _row_views(self, values: NDArray[np.float64], size: int) -> list[NDArray[np.float64]]:
        """Return a view of every row of an array, made once."""
        known = self._rows.get(id(values))
        if known is None:
            if values.dtype != np.float64 or values.ndim != 2 or not values.flags.c_contiguous:
                raise ValueError("parameters must be a C-contiguous float64 array (n, size)")
            if not values.flags.writeable:
                raise ValueError("parameters must be writeable: Ceres changes them in place")
            known = self._rows[id(values)] = (values, list(values))
        if values.shape[1] != size:
            raise ValueError(f"the cost takes blocks of {size} values, not {values.shape[1]}")
        return known[1]

    def _loss(self, name: str | None, scale: float) -> Any:
        """Return the loss object of a name and scale, made once."""
        if name is None:
            return None
        key = (name, scale)
        if key not in self._losses:
            self._losses[key] = _LOSSES[name](scale)
        return self._losses[key]


def _solver_options(options: SolveOptions) -> Any:
    """Return the same options as Ceres wants them, silent."""
    ceres = pyceres.SolverOptions()
    ceres.max_num_iterations = options.max_iterations
    ceres.linear_solver_type = getattr(pyceres.LinearSolverType, options.linear_solver.upper())
    ceres.num_threads = options.num_threads
    ceres.function_tolerance = options.function_tolerance
    ceres.gradient_tolerance = options.gradient_tolerance
    ceres.parameter_tolerance = options.parameter_tolerance
    ceres.initial_trust_region_radius = options.initial_radius
    ceres.logging_type = pyceres.LoggingType.SILENT
    ceres.minimizer_progress_to_stdout = False
    return ceres
