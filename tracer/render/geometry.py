"""The surface as the renderer sees it: transformed, with normals whose side is decided once.

Sides: the normal is d/dcol x d/drow, and layer 0 lies at the most negative offset along it, as in
VC3D. `flip_normals` turns the normal round. `recto_up` picks the side instead: the last layer is
the one nearest the scroll's axis, because the recto, the written side, faces the axis.
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError, SurfaceError
from tracer.render.params import RenderParams
from tracer.surface import Surface

_CLEAR_MAJORITY = 0.7  # share of the vertices that must agree on the side of the axis
_MATRIX_KEYS = ("transformation_matrix", "matrix", "affine")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Geometry:
    """Vertices and oriented normals in voxels of the rendered volume.

    Attributes
    ----------
    points_xyz : ndarray of float32, shape (rows, cols, 3)
        Vertices after scaling and the affine matrix.
    normals_xyz : ndarray of float32, shape (rows, cols, 3)
        Unit normals towards the last layer, NaN where undefined.
    valid : ndarray of bool, shape (rows, cols)
        Which vertices exist.
    scale : tuple of float
        Cells per voxel of the rendered volume along columns and rows.
    side : str
        How the side was decided, for the metadata.
    """

    points_xyz: NDArray[np.float32]
    normals_xyz: NDArray[np.float32]
    valid: NDArray[np.bool_]
    scale: tuple[float, float]
    side: str


def prepare_geometry(surface: Surface, params: RenderParams) -> Geometry:
    """Return a surface's vertices and normals as they are rendered.

    Parameters
    ----------
    surface : Surface
        What to render.
    params : RenderParams
        Transformation and orientation.

    Returns
    -------
    Geometry
        In voxels of the rendered volume.

    Raises
    ------
    SurfaceError
        If no quad is valid, or the recto's side cannot be told.
    FormatError
        If the affine matrix or the umbilicus cannot be read.
    """
    from tracer.kernels.quad_mesh import vertex_normals

    if surface.valid_quads.size == 0 or not surface.valid_quads.any():
        raise SurfaceError(
            f"surface {surface.name or '(unnamed)'}: no quad has four valid corners; "
            "there is nothing to render"
        )
    matrix = _matrix(params)
    points = surface.points_xyz
    determinant = 1.0
    if matrix is not None:
        moved = points.astype(np.float64) @ matrix[:, :3].T + matrix[:, 3]
        points = np.where(surface.valid[..., None], moved, -1.0).astype(np.float32)
        determinant = float(np.linalg.det(matrix[:, :3]))
    normals = np.empty_like(points)
    vertex_normals(points, surface.valid, normals)
    magnification = abs(determinant) ** (1.0 / 3.0)
    mirrored = determinant < 0  # a mirror image keeps its written side
    flip, side = _side(points, normals, surface.valid, params, mirrored=mirrored)
    if flip:
        normals = -normals
    return Geometry(
        points_xyz=points,
        normals_xyz=normals,
        valid=surface.valid,
        scale=(surface.scale[0] / magnification, surface.scale[1] / magnification),
        side=side,
    )


def _matrix(params: RenderParams) -> NDArray[np.float64] | None:
    """Return the 3x4 matrix from the surface's to the volume's coordinates, None for identity."""
    if not params.affine and params.scale_segmentation == 1.0:
        return None
    matrix: NDArray[np.float64] = np.eye(4)
    if params.affine:
        matrix = read_affine(Path(params.affine))
        if params.invert_affine:
            matrix = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
    scaling = np.diag([params.scale_segmentation] * 3 + [1.0])
    return np.asarray((matrix @ scaling)[:3])


def read_affine(path: Path) -> NDArray[np.float64]:
    """Return the affine matrix in a file.

    Parameters
    ----------
    path : Path
        JSON (rows, or an object with the key ``transformation_matrix``, ``matrix`` or ``affine``)
        or plain text, 3 or 4 rows of 4 numbers, for column vectors (x, y, z, 1).

    Returns
    -------
    ndarray of float64, shape (4, 4)
        Invertible matrix.

    Raises
    ------
    FormatError
        If the file holds no invertible 3x4 or 4x4 matrix.
    """
    rows = _read_numbers(path, _MATRIX_KEYS)
    if rows.shape not in ((3, 4), (4, 4)) or not np.isfinite(rows).all():
        raise FormatError(f"{path}: holds {rows.shape} numbers, not a 3x4 or 4x4 matrix")
    matrix = np.eye(4)
    matrix[: len(rows)] = rows
    if not np.array_equal(matrix[3], [0, 0, 0, 1]):
        raise FormatError(f"{path}: the last row is {rows[3].tolist()}, it must be 0 0 0 1")
    if abs(np.linalg.det(matrix)) < 1e-12:
        raise FormatError(f"{path}: the matrix is singular; correct it")
    return matrix


def _read_numbers(path: Path, keys: tuple[str, ...]) -> NDArray[np.float64]:
    """Return the table of numbers in a JSON or text file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: cannot read ({error}); check the path") from error
    try:
        value: Any = json.loads(text)
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip() and line.lstrip()[0] != "#"]
        value = [[part for part in re.split(r"[\s,;]+", line) if part] for line in lines]
    if isinstance(value, dict):
        value = next((value[key] for key in keys if key in value), None)
    if value and isinstance(value, list) and isinstance(value[0], dict):
        value = [[point.get(axis) for axis in "xyz"] for point in value]
    try:
        table = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{path}: not a table of numbers ({error}); correct it") from error
    return table


def _side(
    points: NDArray[np.float32],
    normals: NDArray[np.float32],
    valid: NDArray[np.bool_],
    params: RenderParams,
    *,
    mirrored: bool,
) -> tuple[bool, str]:
    """Return (turn the normals round?, how that was decided)."""
    if not params.recto_up:
        flip = params.flip_normals != mirrored
        return flip, "-(d/dcol x d/drow)" if flip else "d/dcol x d/drow"
    defined = valid & np.isfinite(normals).all(axis=-1)
    at = points[defined].astype(np.float64)
    direction = normals[defined].astype(np.float64)
    if params.umbilicus:
        axis = _axis_at(read_umbilicus(Path(params.umbilicus)), at[:, 2])
        source = "umbilicus"
    else:
        axis = np.broadcast_to(_meeting_point(at[:, :2], direction[:, :2]), (len(at), 2))
        source = "estimated axis"
    towards = ((axis - at[:, :2]) * direction[:, :2]).sum(axis=1)
    inward = float((towards > 0).mean())
    if max(inward, 1.0 - inward) < _CLEAR_MAJORITY:
        raise SurfaceError(
            f"recto_up: only {100 * max(inward, 1 - inward):.0f} % of the vertices agree which "
            f"side faces the scroll's axis ({source}); give umbilicus, or choose with flip_normals"
        )
    flip = (inward < 0.5) != params.flip_normals
    up = "verso" if params.flip_normals else "recto"
    return flip, f"{up} up ({source}, {100 * max(inward, 1 - inward):.0f} % of the vertices agree)"


def _meeting_point(at_xy: NDArray[np.float64], lines_xy: NDArray[np.float64]) -> Any:
    """Return the x, y nearest to all normals as lines: the axis, or the centre of curvature."""
    length = np.linalg.norm(lines_xy, axis=1)
    keep = length > 0.1  # normals along z say nothing about x and y
    unit = lines_xy[keep] / length[keep, None]
    centre = at_xy.mean(axis=0)
    across = np.stack([-unit[:, 1], unit[:, 0]], axis=1)
    matrix = across.T @ across
    values, vectors = np.linalg.eigh(matrix)
    if keep.sum() < 3 or values[0] <= 1e-4 * values[1]:
        raise SurfaceError(
            "recto_up: the surface is too flat to tell where the scroll's axis lies; "
            "give umbilicus, or choose the side with flip_normals"
        )
    right = across.T @ (across * (at_xy[keep] - centre)).sum(axis=1)
    return centre + vectors @ ((vectors.T @ right) / values)


def read_umbilicus(path: Path) -> NDArray[np.float64]:
    """Return the points of a scroll's axis.

    Parameters
    ----------
    path : Path
        JSON (``[[x, y, z], …]``, ``[{"x": …}, …]``, either also under ``control_points`` or
        ``points``) or text with x, y, z per line.

    Returns
    -------
    ndarray of float64, shape (n, 3)
        x, y, z sorted by z.

    Raises
    ------
    FormatError
        If the file holds no such points.
    """
    points = _read_numbers(path, ("control_points", "points", "umbilicus"))
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise FormatError(f"{path}: shape {points.shape}; an umbilicus is rows of x, y, z")
    return points[np.argsort(points[:, 2], kind="stable")]


def _axis_at(umbilicus: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return x, y of the axis at heights z."""
    return np.stack([np.interp(z, umbilicus[:, 2], umbilicus[:, axis]) for axis in (0, 1)], axis=1)
