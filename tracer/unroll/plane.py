"""Unrolled coordinates of every vertex: U along the sheet, V along the axis, by least squares.

Each grid edge says how far apart its ends are along u and v; each touch says that a vertex has the
coordinates of the point that it lies on. The turns are known by now, so that no statement is off by
a circumference, and a first guess from radius and winding is good to a few percent. Conjugate
gradients with two levels: every vertex for itself, and an affine map per patch. The coarse level is
what makes the number of iterations independent of the size.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.axis import Axis
from tracer.unroll.frames import Frames
from tracer.unroll.layout import Layout
from tracer.unroll.overlaps import Contacts
from tracer.unroll.patches import Patches

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_BINS_PER_TURN = 16  # of the guess
_TOUCH_WEIGHT = 1.0
_MOST_TOUCHES = 3  # per vertex in the solve; more are redundant and only cost memory
_ANCHOR = 1e-6  # pull towards the guess that fixes what nothing else does
_PIN = 1.0  # pull of a pin: that of one statement, so that slabs share what they disagree about
_TOLERANCE = 1e-4  # of the residual; 0.01 voxel on a plane of 10,000
_MOST_STEPS = 300
_FEW_STEPS = 30  # from a good start: long waves are right by then
_ROUNDS = 2  # of reweighting; jumps are cut already, so that there is little to weigh down
_AFFINE_FROM = 12  # vertices from which a piece gets an affine map instead of a shift
_ALONG_TANGENT = 0.5  # cosine from which a bare edge runs around the axis
_MOST_AFFINE = 15_000  # pieces; beyond, the factors of the coarse level grow too large


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pins:
    """Vertices whose coordinates are known: they were solved in a neighbouring slab.

    Attributes
    ----------
    vertex : ndarray of int64, shape (k,)
        Which vertices.
    uv : ndarray of float64, shape (k, 2)
        Their coordinates, voxels.
    """

    vertex: NDArray[np.int64]
    uv: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plane:
    """Unrolled coordinates.

    Attributes
    ----------
    uv : ndarray of float64, shape (n, 2)
        U along the sheet (growing with the azimuth), V along the axis; voxels. NaN for vertices
        that do not count.
    residual_median : float
        Median misfit of the statements, voxels.
    residual_p99 : float
        99th percentile of it.
    steps : int
        Iterations of conjugate gradients in all.
    """

    uv: NDArray[np.float64]
    residual_median: float
    residual_p99: float
    steps: int


def flatten(
    patches: Patches,
    contacts: Contacts,
    frames: Frames,
    axis: Axis,
    layout: Layout,
    *,
    start: NDArray[np.float64] | None = None,
    pins: Pins | None = None,
) -> Plane:
    """Return the unrolled coordinates of all vertices that count.

    Parameters
    ----------
    patches : Patches
        The patches.
    contacts : Contacts
        Their overlaps.
    frames : Frames
        Frames of the vertices.
    axis : Axis
        The scroll's axis.
    layout : Layout
        Windings, components and cuts.
    start : ndarray of float64, shape (n, 2), optional
        Coordinates to begin with; :func:`first_guess` where omitted.
    pins : Pins, optional
        Coordinates to keep to; what they do not reach keeps to the guess.

    Returns
    -------
    Plane
        Coordinates; different components share one plane by their windings alone.
    """
    active = layout.component >= 0
    matrix, right = _statements(patches, contacts, frames, axis, layout)
    guess = first_guess(patches, axis, layout) if start is None else start
    hold = np.full(patches.n_vertices, _ANCHOR)
    if pins is not None:
        guess = _moved_to_pins(guess, pins, layout.component)
        hold[pins.vertex] = _PIN
    coarse = _coarse_basis(patches, layout, guess)
    column = np.flatnonzero(active)
    number = np.full(patches.n_vertices, -1)
    number[column] = np.arange(len(column))
    matrix = matrix[:, column]
    solution = guess[column]
    anchor = solution.copy()
    most = _MOST_STEPS if start is None else _FEW_STEPS
    weight = np.ones(len(right))
    steps = 0
    for _ in range(_ROUNDS):
        solution, used = _solve(
            matrix, weight, right, solution, anchor, hold[column], coarse[column], most
        )
        steps += used
        misfit = np.linalg.norm(matrix @ solution - right, axis=1)
        scale = max(3.0 * float(np.median(misfit)), 1e-3) if len(misfit) else 1.0
        weight = 1.0 / (1.0 + (misfit / scale) ** 2)
    uv = np.full((patches.n_vertices, 2), np.nan)
    uv[column] = solution
    if not len(right):
        misfit = np.zeros(1)
    return Plane(
        uv=uv,
        residual_median=float(np.median(misfit)),
        residual_p99=float(np.percentile(misfit, 99)),
        steps=steps,
    )


def _moved_to_pins(
    guess: NDArray[np.float64], pins: Pins, component: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Return the guess with every component moved to its pins, and the pins in place."""
    moved = guess.copy()
    of_pin = component[pins.vertex]
    for number in np.unique(of_pin).tolist():
        mine = of_pin == number
        move = np.median(pins.uv[mine] - guess[pins.vertex[mine]], axis=0)
        moved[component == number] += move
    moved[pins.vertex] = pins.uv
    return moved


def _statements(
    patches: Patches, contacts: Contacts, frames: Frames, axis: Axis, layout: Layout
) -> "tuple[csr_array, NDArray[np.float64]]":
    """Return matrix and right-hand sides (U, V) of all statements."""
    from scipy.sparse import csr_array

    points = patches.points_xyz.astype(np.float64)
    u, v = frames.u.astype(np.float64), frames.v.astype(np.float64)
    active = layout.component >= 0
    i, j = patches.edges[~layout.cut & active[patches.edges].all(axis=1)].T
    edge_right = _components(points[j] - points[i], u[i] + u[j], v[i] + v[j])
    bare = ~(u[i] + u[j]).any(axis=1)
    edge_right[bare] = _about_axis(points[i[bare]], points[j[bare]], axis)

    chosen = contacts.select(_useful_touches(patches, contacts, layout))
    corners, weights = chosen.corners(patches), chosen.corner_weights().astype(np.float64)
    k = chosen.vertex
    offset = np.einsum("kc,kcd->kd", weights, points[corners]) - points[k]
    touch_right = _components(offset, u[k], v[k])

    n_edges, n_touches = len(i), len(k)
    ones = np.ones(n_edges)
    data = np.concatenate(
        [
            np.stack([-ones, ones], axis=1).ravel(),
            np.column_stack([np.full(n_touches, -1.0), weights]).ravel() * _TOUCH_WEIGHT,
        ]
    )
    columns = np.concatenate(
        [np.stack([i, j], axis=1).ravel(), np.column_stack([k, corners]).ravel()]
    )
    starts = np.concatenate(
        [2 * np.arange(n_edges + 1), 2 * n_edges + 5 * np.arange(1, n_touches + 1)]
    )
    matrix = csr_array((data, columns, starts), shape=(n_edges + n_touches, len(points)))
    return matrix, np.concatenate([edge_right, touch_right * _TOUCH_WEIGHT])


def _components(
    vectors: NDArray[np.float64], u: NDArray[np.float64], v: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the parts of vectors along u and v, which need not have unit length."""
    parts = []
    for direction in (u, v):
        length = np.linalg.norm(direction, axis=1)
        length[length == 0] = 1.0
        parts.append(np.einsum("ij,ij->i", vectors, direction) / length)
    return np.stack(parts, axis=1)


def _about_axis(
    begin: NDArray[np.float64], end: NDArray[np.float64], axis: Axis
) -> NDArray[np.float64]:
    """Return (U, V) of edges without a normal: of a row or column with nothing beside it."""
    vector = end - begin
    outward = begin[:, :2] - axis.at(begin[:, 2])
    tangent = np.stack([-outward[:, 1], outward[:, 0]], axis=1)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    across = np.hypot(vector[:, 0], vector[:, 1])
    along = np.einsum("ij,ij->i", vector[:, :2], tangent)
    # a row keeps its length however crushed the roll is; a column only leans
    is_row = (np.abs(along) > _ALONG_TANGENT * across) & (across > np.abs(vector[:, 2]))
    return np.stack([np.where(is_row, np.copysign(across, along), along), vector[:, 2]], axis=1)


def _useful_touches(patches: Patches, contacts: Contacts, layout: Layout) -> NDArray[np.bool_]:
    """Return the touches between vertices of the same wrap, at most a few per vertex."""
    corners = contacts.corners(patches)
    component = layout.component[contacts.vertex]
    good = (component >= 0) & (layout.component[corners] == component[:, None]).all(axis=1)
    near = np.abs(layout.winding[corners] - layout.winding[contacts.vertex][:, None]) < 0.5
    good &= near.all(axis=1)
    # of the good ones of a vertex keep evenly spread ones: they are sorted by patch
    vertex = contacts.vertex[good]
    start = np.flatnonzero(np.r_[True, vertex[1:] != vertex[:-1]]) if len(vertex) else vertex
    count = np.diff(np.r_[start, len(vertex)])
    rank = np.arange(len(vertex)) - np.repeat(start, count)
    total = np.repeat(count, count)
    keep = (rank * _MOST_TOUCHES) // total != ((rank - 1) * _MOST_TOUCHES) // total
    keep |= total <= _MOST_TOUCHES
    chosen = good.copy()
    chosen[good] = keep
    return np.asarray(chosen)


def first_guess(patches: Patches, axis: Axis, layout: Layout) -> NDArray[np.float64]:
    """Return U from the radius integrated over the winding, and V = z.

    Parameters
    ----------
    patches : Patches
        The patches.
    axis : Axis
        The scroll's axis.
    layout : Layout
        Windings and components.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        Voxels; good to a few percent of the length.
    """
    active = layout.component >= 0
    if not active.any():
        return np.zeros((patches.n_vertices, 2))
    winding = layout.winding
    radius = axis.radii(patches.points_xyz)
    low = float(winding[active].min())
    bins = ((winding - low) * _BINS_PER_TURN).astype(np.int64)
    known, where = np.unique(bins[active], return_inverse=True)
    total = np.bincount(where, radius[active]) / np.bincount(where)
    spread = np.interp(np.arange(known[-1] + 1), known, total)
    length = np.concatenate([[0.0], np.cumsum(2 * np.pi * spread / _BINS_PER_TURN)])
    at = np.arange(len(length)) / _BINS_PER_TURN + low
    u = layout.handedness * np.interp(winding, at, length)
    return np.stack([u, patches.points_xyz[:, 2].astype(np.float64)], axis=1)


def _coarse_basis(patches: Patches, layout: Layout, guess: NDArray[np.float64]) -> "csr_array":
    """Return the affine functions of every connected piece of every patch, as columns."""
    from scipy.sparse import coo_array, csr_array
    from scipy.sparse.csgraph import connected_components

    n = patches.n_vertices
    active = layout.component >= 0
    i, j = patches.edges[~layout.cut & active[patches.edges].all(axis=1)].T
    graph = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(n, n))
    _, piece = connected_components(graph, directed=False)
    piece = np.where(active, piece, -1)
    used, piece_of = np.unique(piece[active], return_inverse=True)
    count = np.bincount(piece_of, minlength=len(used))
    vertices = np.flatnonzero(active)
    blocks = [csr_array((np.ones(len(vertices)), (vertices, piece_of)), shape=(n, len(used)))]
    if len(used) <= _MOST_AFFINE:
        large = count[piece_of] >= _AFFINE_FROM
        renumber = np.cumsum(count >= _AFFINE_FROM) - 1
        columns = renumber[piece_of[large]]
        for part in (0, 1):
            mean = np.bincount(piece_of, guess[vertices, part]) / count
            value = guess[vertices, part] - mean[piece_of]
            size = np.sqrt(np.bincount(piece_of, value**2) / count)
            value = value / np.maximum(size, 1e-9)[piece_of]
            shape = (n, int((count >= _AFFINE_FROM).sum()))
            blocks.append(csr_array((value[large], (vertices[large], columns)), shape=shape))
    from scipy.sparse import hstack

    return csr_array(hstack(blocks, format="csr"))


def _solve(
    matrix: "csr_array",
    weight: NDArray[np.float64],
    right: NDArray[np.float64],
    start: NDArray[np.float64],
    anchor: NDArray[np.float64],
    hold: NDArray[np.float64],
    coarse: "csr_array",
    most_steps: int,
) -> tuple[NDArray[np.float64], int]:
    """Return the weighted least-squares solution and the number of iterations."""
    from scipy.sparse import csc_array, csr_array, diags_array
    from scipy.sparse.linalg import splu

    root = np.sqrt(weight)
    weighted = csr_array(diags_array(root) @ matrix)
    transposed = weighted.T.tocsr()

    def apply(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(transposed @ (weighted @ x) + hold[:, None] * x)

    diagonal = weighted.multiply(weighted).sum(axis=0) + hold
    projected = weighted @ coarse
    small = projected.T @ projected + coarse.T @ (diags_array(hold) @ coarse)
    factors = splu(csc_array(small + 1e-9 * diags_array(np.ones(small.shape[0]))))
    restrict = coarse.T.tocsr()

    def precondition(r: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(r / diagonal[:, None] + coarse @ factors.solve(restrict @ r))

    x = start.copy()
    target = transposed @ (root[:, None] * right) + hold[:, None] * anchor
    residual = target - apply(x)
    direction = step = precondition(residual)
    size = np.einsum("ij,ij->j", residual, step)
    goal = _TOLERANCE**2 * np.maximum(np.einsum("ij,ij->j", target, precondition(target)), 1e-30)
    for iteration in range(most_steps):
        if (size <= goal).all():
            return x, iteration
        applied = apply(direction)
        curvature = np.einsum("ij,ij->j", direction, applied)
        ratio = np.where(curvature > 0, size / np.where(curvature > 0, curvature, 1.0), 0.0)
        x += ratio * direction
        residual -= ratio * applied
        step = precondition(residual)
        before, size = size, np.einsum("ij,ij->j", residual, step)
        direction = (
            step + np.where(before > 0, size / np.where(before > 0, before, 1.0), 0.0) * direction
        )
    return x, most_steps
