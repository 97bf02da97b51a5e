"""The patches of a collection, each vertex with its place in one plane: in bounded memory."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracer.progress import Progress, silent
from tracer.unroll.params import UnrollParams
from tracer.unroll.patches import Patches
from tracer.unroll.slabs import slab_solver
from tracer.unroll.stage import Solved, solve
from tracer.unroll.stitch import Groups
from tracer.unroll.suspects import Suspect, find_suspects

if TYPE_CHECKING:
    from tracer.surface import Surface


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlatPatches:
    """All patches laid out in one plane.

    Attributes
    ----------
    uv : mapping of str to ndarray of float32, shape (rows, cols, 2)
        Along the sheet and along the axis, voxels, by patch; NaN where not known.
    component : mapping of str to ndarray of int32, shape (rows, cols)
        Parts of the layout that nothing connects; -1 where there is none.
    winding : mapping of str to ndarray of float32, shape (rows, cols)
        Turns; NaN where not known.
    gap : float
        Usual distance of neighbouring wraps, voxels; NaN where no two were seen.
    """

    uv: Mapping[str, NDArray[np.float32]]
    component: Mapping[str, NDArray[np.int32]]
    winding: Mapping[str, NDArray[np.float32]]
    gap: float = float("nan")

    @classmethod
    def empty(cls, surfaces: Mapping[str, "Surface"]) -> "FlatPatches":
        """Return patches of which nothing is known.

        Parameters
        ----------
        surfaces : mapping of str to Surface
            The patches.

        Returns
        -------
        FlatPatches
            Arrays to be written to.
        """
        return cls(
            uv={name: np.full((*s.shape, 2), np.nan, np.float32) for name, s in surfaces.items()},
            component={name: np.full(s.shape, -1, np.int32) for name, s in surfaces.items()},
            winding={name: np.full(s.shape, np.nan, np.float32) for name, s in surfaces.items()},
        )


def lay_out_patches(
    paths: Path,
    surfaces: Mapping[str, "Surface"],
    params: UnrollParams,
    *,
    progress: Progress = silent,
) -> tuple[FlatPatches, tuple[Suspect, ...]]:
    """Return where every patch lies in one plane, and which of them jump.

    Parameters
    ----------
    paths : Path
        The collection.
    surfaces : mapping of str to Surface
        Its patches that count, by name.
    params : UnrollParams
        Parameters; ``memory_gb`` decides whether everything is solved at once or in slabs.
    progress : Progress
        Called for each slab.

    Returns
    -------
    flat : FlatPatches
        The layout.
    suspects : tuple of Suspect
        Jumps, tails, minorities.

    Raises
    ------
    CollectionError
        If there is nothing to lay out.
    """
    flat = FlatPatches.empty(surfaces)
    solver = slab_solver([paths / name for name in surfaces], params)
    if solver is None:
        solved = solve(Patches.from_surfaces(list(surfaces.values()), list(surfaces)), params)
        _enter(flat, solved, np.arange(solved.layout.n_components), (-np.inf, np.inf))
        return replace(flat, gap=solved.layout.gap), tuple(find_suspects(solved))
    for number in range(solver.n_slabs):
        progress(number, solver.n_slabs, f"layout, slab {number + 1} of {solver.n_slabs}")
        solved = solver.solve_slab(number, None, pictures=False, surfaces=False)
        _enter(flat, solved, solver.group_of, solver.core(number))
    _join(flat, solver.groups)
    return replace(flat, gap=solver.gap), solver.findings().suspects


def _enter(
    flat: FlatPatches, solved: Solved, group_of: NDArray[np.int64], core: tuple[float, float]
) -> None:
    """Write the vertices between two heights into the layout."""
    patches, layout = solved.patches, solved.layout
    z = patches.points_xyz[:, 2]
    chosen = np.flatnonzero((layout.component >= 0) & (z >= core[0]) & (z < core[1]))
    bounds = np.searchsorted(patches.grid[chosen, 0], np.arange(len(patches.names) + 1))
    for i, name in enumerate(patches.names):
        mine = chosen[bounds[i] : bounds[i + 1]]
        rows, cols = patches.grid[mine, 1], patches.grid[mine, 2]
        flat.uv[name][rows, cols] = solved.plane.uv[mine]
        flat.component[name][rows, cols] = group_of[layout.component[mine]]
        flat.winding[name][rows, cols] = layout.winding[mine]


def _join(flat: FlatPatches, groups: Groups) -> None:
    """Move groups that slabs above have joined to where their roots are."""
    root_of, turns, shifts = groups.towards_roots(np.arange(len(groups.parents)))
    for name, component in flat.component.items():
        known = component >= 0
        group = component[known]
        flat.uv[name][known] += shifts[group].astype(np.float32)
        flat.winding[name][known] += turns[group]
        component[known] = root_of[group]
