"""A plane that stretches as little as possible: symmetric Dirichlet energy, by Newton's method.

The least-squares plane trusts the frames of the vertices, which turn where a sheet is not quite
developable or its rows are not quite level. Here only the cells' own shape counts: the energy of a
cell is s1² + 1/s1² + s2² + 1/s2² of the singular values of its map into the plane, 4 for an
isometry, infinite for a cell without area, so that no cell is ever turned over.

The correction is smooth. On a fine grid it is therefore solved on every few nodes, at the metric of
the fine cells there, and interpolated: the cost does not grow with the resolution.

A cell counts by the triangles at its four corners; a bilinear cell whose corners are the right way
up is the right way up everywhere.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.patches import Patches

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_MOST_CELLS = 20_000  # in the solve; beyond, cells are sampled
_ROUNDS = 12
_ENOUGH = 0.01  # decrease of the energy above an isometry's, relative, at which it has converged
_HOLD = 1e-4  # weight, relative to a cell's, of staying in place: fixes position and rotation
_SAFE = 0.8  # share of the way to the first cell without area
_HALVINGS = 8
_ALIKE = 1e-6  # relative difference of singular values up to which they are the same
_MODES = np.array(
    [
        [[1.0, 0.0], [0.0, 0.0]],
        [[0.0, 0.0], [0.0, 1.0]],
        [[0.0, 0.5**0.5], [0.5**0.5, 0.0]],
        [[0.0, -(0.5**0.5)], [0.5**0.5, 0.0]],
    ]
)
# corners 00, 01, 10, 11: the corner, its neighbour in the row, in the column
_TRIANGLES = np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0], [3, 2, 1]])
_ROW = np.array([[-1.0], [1.0], [0.0]])
_COLUMN = np.array([[-1.0], [0.0], [1.0]])
_TORN = 3.0  # singular values beyond this or its inverse: not a cell of the sheet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Cells:
    """Corner triangles of cells, with their shape in space.

    Attributes
    ----------
    cell : ndarray of int64, shape (q,)
        The cell.
    which : ndarray of int64, shape (q,)
        Corner 0 to 3 of it.
    corners : ndarray of int32, shape (q, 3)
        Vertices: the corner, the next one in the row, the next one in the column.
    slopes : ndarray of float64, shape (q, 2, 3)
        Derivatives along two orthonormal directions of the triangle, per vertex.
    area : ndarray of float64, shape (q,)
        In space, over the mean.
    """

    cell: NDArray[np.int64]
    which: NDArray[np.int64]
    corners: NDArray[np.int32]
    slopes: NDArray[np.float64]
    area: NDArray[np.float64]

    def jacobians(self, uv: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the maps of the cells from space into the plane, shape (q, 2, 2)."""
        return np.asarray(np.einsum("qjc,qck->qkj", self.slopes, uv[self.corners]))


def minimise_stretch(
    patches: Patches, quads: NDArray[np.int32], uv: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return coordinates in which the cells of one surface are stretched least.

    Parameters
    ----------
    patches : Patches
        One surface.
    quads : ndarray of int32, shape (q, 4)
        Its cells that lie in the plane, corners 00, 01, 10, 11.
    uv : ndarray of float64, shape (n, 2)
        Coordinates to begin with, voxels; NaN for vertices that do not count.

    Returns
    -------
    ndarray of float64, shape (n, 2)
        Coordinates; no cell that takes part is turned over: on a fine grid a sample of them.

    Notes
    -----
    Cells that begin upside down or torn do not take part. Every round is one sparse solve of twice
    the number of nodes. Reweighted solves (SLIM: M. Rabinovich et al., "Scalable Locally Injective
    Mappings", ACM Trans. Graph. 36(2), 2017) hold the rotations of the last round and needed dozens
    of rounds where this takes four; their step that stops short of turning a cell over is kept.

    References
    ----------
    B. Smith, F. de Goes, T. Kim, "Analytic Eigensystems for Isotropic Distortion Energies", ACM
    Trans. Graph. 38(1), 2019.
    """
    stride = max(1, math.ceil(math.sqrt(len(quads) / _MOST_CELLS)))
    cells = _cells(patches, _sampled(patches, quads, stride))
    if stride > 1:
        cells = _one_of_each_kind(cells, patches, stride)
    cells = _sound(cells, uv)
    if len(cells.corners) < 4:
        return uv
    basis = _basis(patches, np.isfinite(uv[:, 0]), stride)
    energy = _energy(cells.jacobians(uv), cells.area)
    for _ in range(_ROUNDS):
        change = _direction(cells, uv, basis)
        share = min(1.0, _SAFE * _first_flat(cells.jacobians(uv), cells.jacobians(change)))
        for _ in range(_HALVINGS):
            moved = uv + share * change
            lower = _energy(cells.jacobians(moved), cells.area)
            if lower < energy:
                break
            share *= 0.5
        else:
            return uv
        uv, gain, energy = moved, energy - lower, lower
        if gain < _ENOUGH * energy:
            break
    return uv


def _cells(patches: Patches, quads: NDArray[np.int32]) -> _Cells:
    """Return the corner triangles of cells, each in an orthonormal frame of its own."""
    cell, which = (part.ravel() for part in np.indices((len(quads), 4)))
    corners = quads[cell[:, None], _TRIANGLES[which]]
    at, row, col = np.moveaxis(patches.points_xyz[corners].astype(np.float64), 1, 0)
    sign = np.where(which % 2 == 0, 1.0, -1.0)[:, None], np.where(which < 2, 1.0, -1.0)[:, None]
    along, down = sign[0] * (row - at), sign[1] * (col - at)
    width = np.linalg.norm(along, axis=1)
    lean = np.einsum("ij,ij->i", along, down) / np.maximum(width, 1e-12)
    height = np.sqrt(np.maximum(np.einsum("ij,ij->i", down, down) - lean**2, 0.0))
    right, below = sign[0][:, 0] * _ROW, sign[1][:, 0] * _COLUMN
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = np.stack(
            [right / width, (below - lean / width * right) / height], axis=0
        ).transpose(2, 0, 1)
    area = width * height
    good = (width > 1e-6) & (height > 1e-6)
    mean = area[good].mean() if good.any() else 1.0
    found = _Cells(cell=cell, which=which, corners=corners, slopes=slopes, area=area / mean)
    degenerate = np.bincount(cell[~good], minlength=len(quads)) > 0
    return _chosen(found, np.asarray(~degenerate[cell]))


def _chosen(cells: _Cells, keep: NDArray[np.bool_]) -> _Cells:
    return _Cells(
        cell=cells.cell[keep],
        which=cells.which[keep],
        corners=cells.corners[keep],
        slopes=cells.slopes[keep],
        area=cells.area[keep],
    )


def _sound(cells: _Cells, uv: NDArray[np.float64]) -> _Cells:
    """Return the cells that lie in the plane the same way up as most, and are not torn."""
    cells = _chosen(cells, np.asarray(np.isfinite(uv[cells.corners]).all(axis=(1, 2))))
    jacobian = cells.jacobians(uv)
    upright = np.linalg.det(jacobian) > 0
    if 2 * upright.sum() < len(upright):  # rows run against the plane's orientation: mirror
        cells.slopes[:, 1] *= -1.0
        upright = ~upright
    singular = np.linalg.svd(jacobian, compute_uv=False)
    whole = (singular[:, 0] < _TORN) & (singular[:, 1] > 1.0 / _TORN)
    bad = np.unique(cells.cell[~(upright & whole)])
    return _chosen(cells, np.asarray(~np.isin(cells.cell, bad)))


def _sampled(patches: Patches, quads: NDArray[np.int32], stride: int) -> NDArray[np.int32]:
    """Return four cells of each block of nodes."""
    place = patches.grid[quads[:, 0], 1:] % stride
    low = stride // 4
    return np.asarray(quads[((place == low) | (place == stride - 1 - low)).all(axis=1)])


def _one_of_each_kind(cells: _Cells, patches: Patches, stride: int) -> _Cells:
    """Return a triangle of each cell, of another corner in each: one would not see a twist."""
    beyond = np.stack([cells.which >= 2, cells.which % 2 == 1], axis=1)
    place = (patches.grid[cells.corners[:, 0], 1:] - beyond) % stride
    low = stride // 4
    keep = (place == np.where(beyond, stride - 1 - low, low)).all(axis=1)
    return _chosen(cells, np.asarray(keep))


def _basis(patches: Patches, active: NDArray[np.bool_], stride: int) -> "csr_array":
    """Return the matrix that interpolates from every few nodes to all vertices."""
    from scipy.sparse import csr_array

    vertices = np.flatnonzero(active)
    place = patches.grid[vertices, 1:].astype(np.float64) / stride
    low = np.floor(place).astype(np.int64)
    part = place - low
    width = int(low[:, 1].max()) + 2
    rows, keys, weights = [], [], []
    for r in (0, 1):
        for c in (0, 1):
            weight = np.abs(1 - r - part[:, 0]) * np.abs(1 - c - part[:, 1])
            used = weight > 0
            rows.append(vertices[used])
            keys.append(((low[:, 0] + r) * width + low[:, 1] + c)[used])
            weights.append(weight[used])
    _, column = np.unique(np.concatenate(keys), return_inverse=True)
    shape = (patches.n_vertices, int(column.max()) + 1)
    return csr_array((np.concatenate(weights), (np.concatenate(rows), column)), shape=shape)


def _energy(jacobian: NDArray[np.float64], area: NDArray[np.float64]) -> float:
    """Return the symmetric Dirichlet energy above an isometry's; infinite where one is turned."""
    det = np.linalg.det(jacobian)
    if (det <= 0).any():
        return math.inf
    square = np.einsum("qij,qij->q", jacobian, jacobian)
    return float((area * (square * (1.0 + 1.0 / det**2) - 4.0)).sum())


def _direction(cells: _Cells, uv: NDArray[np.float64], basis: "csr_array") -> NDArray[np.float64]:
    """Return the step of Newton's method, curvatures below zero left out."""
    from scipy.sparse import block_array, csc_array, csr_array, diags_array
    from scipy.sparse.linalg import splu

    left, s, right = np.linalg.svd(cells.jacobians(uv))
    slope = 2.0 * (s - s**-3.0)  # of s² + 1/s²
    # the derivative's modes: stretch along either direction, both sheared, both turned
    modes = np.einsum("qik,mkl,qlj->qmij", left, _MODES, right)
    difference, total = s[:, 0] - s[:, 1], s.sum(axis=1)
    alike = difference < _ALIKE * total
    shear = (slope[:, 0] - slope[:, 1]) / np.where(alike, 1.0, difference)
    stretch = 2.0 + 6.0 * s**-4.0
    shear = np.where(alike, stretch[:, 0], shear)
    curvature = np.column_stack([stretch, shear, slope.sum(axis=1) / total])
    curvature = np.maximum(curvature, 0.0) * cells.area[:, None]
    felt = np.einsum("qmkj,qjc->qmkc", modes, cells.slopes)
    n, corners = basis.shape[0], cells.corners
    i, j = np.repeat(corners, 3, axis=1).ravel(), np.tile(corners, (1, 3)).ravel()

    def block(k: int, m: int) -> "csr_array":
        data = np.einsum("qa,qac,qad->qcd", curvature, felt[:, :, k], felt[:, :, m]).ravel()
        return csr_array(basis.T @ csr_array((data, (i, j)), shape=(n, n)) @ basis)

    across = block(0, 1)
    matrix = block_array([[block(0, 0), across], [across.T, block(1, 1)]], format="csc")
    force = np.einsum("q,qik,qk,qkj->qij", cells.area, left, slope, right)
    pull = np.empty((n, 2))
    for k in range(2):
        at_corners = -np.einsum("qj,qjc->qc", force[:, k], cells.slopes)
        pull[:, k] = np.bincount(corners.ravel(), at_corners.ravel(), n)
    hold = _HOLD * float(matrix.diagonal().mean())
    matrix = csc_array(matrix + hold * diags_array(np.ones(matrix.shape[0])))
    factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    solution = factors.solve((basis.T @ pull).T.ravel()).reshape(2, -1)
    return np.asarray(basis @ solution.T)


def _first_flat(jacobian: NDArray[np.float64], change: NDArray[np.float64]) -> float:
    """Return the smallest positive share of a change at which a cell loses its area."""
    a = np.linalg.det(change)
    c = np.linalg.det(jacobian)
    b = (
        jacobian[:, 0, 0] * change[:, 1, 1]
        + change[:, 0, 0] * jacobian[:, 1, 1]
        - jacobian[:, 0, 1] * change[:, 1, 0]
        - change[:, 0, 1] * jacobian[:, 1, 0]
    )
    root = np.sqrt(np.maximum(b**2 - 4 * a * c, 0.0))
    # numerically stable roots of a t² + b t + c
    q = -0.5 * (b + np.copysign(root, b))
    shares = np.stack([q / np.where(a == 0, np.nan, a), c / np.where(q == 0, np.nan, q)])
    shares[:, b**2 - 4 * a * c < 0] = np.nan
    shares = shares[np.isfinite(shares) & (shares > 0)]
    return float(shares.min(initial=np.inf))
