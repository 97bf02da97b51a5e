"""Triangle meshes with texture coordinates: OBJ and PLY files, and surfaces made of them.

u is col / (cols - 1) and v is row / (rows - 1); only quads of four valid vertices become triangles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError, ParamsError

if TYPE_CHECKING:
    from tracer.surface import Surface

_PLY_UV = (("s", "t"), ("u", "v"), ("texture_u", "texture_v"))
_MOST_NODES = 400_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mesh:
    """Triangles with texture coordinates.

    Attributes
    ----------
    points_xyz : ndarray of float64, shape (n, 3)
        Voxels.
    uv : ndarray of float64, shape (n, 2)
        Texture coordinates, 0 to 1.
    normals : ndarray of float64, shape (n, 3)
        Unit normals; empty where the file has none.
    triangles : ndarray of int64, shape (m, 3)
        Corners.
    """

    points_xyz: NDArray[np.float64]
    uv: NDArray[np.float64]
    normals: NDArray[np.float64]
    triangles: NDArray[np.int64]


def mesh_of(surface: "Surface", *, every: int = 1) -> Mesh:
    """Return a surface as triangles.

    Parameters
    ----------
    surface : Surface
        A surface.
    every : int
        Keep every so many rows and columns.

    Returns
    -------
    Mesh
        Two triangles per valid quad, corners in the order that keeps the normal d/dcol x d/drow.

    Raises
    ------
    ParamsError
        If nothing is left.
    """
    points = surface.points_xyz[::every, ::every].astype(np.float64)
    valid = surface.valid[::every, ::every]
    normals = surface.normals()[::every, ::every].astype(np.float64)
    rows, cols = np.indices(surface.shape)
    u = cols[::every, ::every] / max(surface.shape[1] - 1, 1)
    v = rows[::every, ::every] / max(surface.shape[0] - 1, 1)
    quads = valid[:-1, :-1] & valid[:-1, 1:] & valid[1:, :-1] & valid[1:, 1:]
    if not quads.any():
        raise ParamsError(f"{surface.name or 'surface'}: no quad is left; keep more of the grid")
    number = np.full(valid.shape, -1, np.int64)
    used = np.zeros(valid.shape, bool)
    for row in (0, 1):
        for col in (0, 1):
            used[row : row + quads.shape[0], col : col + quads.shape[1]] |= quads
    number[used] = np.arange(used.sum())
    a, b = number[:-1, :-1][quads], number[:-1, 1:][quads]
    c, d = number[1:, 1:][quads], number[1:, :-1][quads]
    return Mesh(
        points_xyz=points[used],
        uv=np.stack([u[used], v[used]], axis=1),
        normals=np.nan_to_num(normals[used]),
        triangles=np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]),
    )


def simplified(surface: "Surface", triangles: int) -> Mesh:
    """Return a surface as few triangles, many where it bends, by Open3D's quadric decimation.

    Open3D drops texture coordinates, so each vertex gets those of the nearest point of the surface.

    Parameters
    ----------
    surface : Surface
        A surface.
    triangles : int
        About how many triangles to keep.

    Returns
    -------
    Mesh
        With texture coordinates and normals.

    Raises
    ------
    ParamsError
        If Open3D cannot be imported.
    """
    from tracer.spatial_index import SpatialIndex

    whole = mesh_of(surface)
    points, corners = _decimate(whole, triangles)
    reach = 4.0 * surface.step
    hits = SpatialIndex.from_surfaces({"surface": surface}).query(points, reach)
    found = np.full((len(points), 2), np.nan)
    found[hits.point_index] = np.stack([hits.rows, hits.cols], axis=1)
    known = np.isfinite(found[:, 0])
    kept = corners[known[corners].all(axis=1)]
    number = np.cumsum(known) - 1
    at = np.rint(found[known]).astype(np.int64)
    normals = surface.normals()[at[:, 0], at[:, 1]].astype(np.float64)
    size = np.maximum(np.array(surface.shape[::-1]) - 1, 1)
    return Mesh(
        points_xyz=points[known],
        uv=found[known][:, ::-1] / size,
        normals=np.nan_to_num(normals),
        triangles=number[kept],
    )


def _decimate(mesh: Mesh, triangles: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return vertices and triangles of a mesh with fewer triangles."""
    try:
        import open3d
    except (ImportError, OSError) as error:
        raise ParamsError(
            f"fewer triangles by error need Open3D, which cannot be imported ({error}); "
            "install it and libusb, or decimate on the grid with --every"
        ) from error
    whole = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(mesh.points_xyz),
        open3d.utility.Vector3iVector(mesh.triangles.astype(np.int32)),
    )
    few = whole.simplify_quadric_decimation(triangles)
    return np.asarray(few.vertices, np.float64), np.asarray(few.triangles, np.int64)


def surface_of(mesh: Mesh, step: float, meta: dict[str, Any] | None = None) -> "Surface":
    """Return the surface that a mesh with texture coordinates describes.

    Parameters
    ----------
    mesh : Mesh
        Triangles.
    step : float
        Voxels between vertices; as many rows and columns are made as lengths in space ask for.
    meta : dict, optional
        Metadata.

    Returns
    -------
    Surface
        Invalid where no triangle is.

    Raises
    ------
    ParamsError
        If the texture coordinates span no area.
    """
    from tracer.kernels.triangle_raster import raster_triangles
    from tracer.surface import Surface

    low, high = mesh.uv.min(axis=0), mesh.uv.max(axis=0)
    length_u, length_v = _lengths(mesh)
    cols, rows = (
        round(float(length * span) / step) + 1
        for length, span in zip((length_u, length_v), high - low, strict=True)
    )
    if min(rows, cols) < 2 or rows * cols > _MOST_NODES:
        raise ParamsError(
            f"a grid of {rows} x {cols} vertices at step {step:g} is no surface; check the texture "
            "coordinates and the step"
        )
    places = ((mesh.uv - low) / (high - low) * [cols - 1, rows - 1])[:, ::-1]
    points = np.full((rows, cols, 3), np.nan)
    raster_triangles(mesh.points_xyz, np.ascontiguousarray(places), mesh.triangles, points)
    valid = np.isfinite(points[..., 0])
    return Surface(
        points_xyz=np.where(valid[..., None], points, -1.0).astype(np.float32),
        valid=valid,
        scale=(1.0 / step, 1.0 / step),
        meta=meta or {},
    )


def _lengths(mesh: Mesh) -> tuple[float, float]:
    """Return the median length in space per unit of u and of v."""
    a, b, c = (mesh.points_xyz[mesh.triangles[:, k]] for k in range(3))
    ua, ub, uc = (mesh.uv[mesh.triangles[:, k]] for k in range(3))
    (du1, dv1), (du2, dv2) = (ub - ua).T, (uc - ua).T
    size = du1 * dv2 - dv1 * du2
    good = np.abs(size) > 1e-15
    if not good.any():
        raise ParamsError("the texture coordinates of the mesh span no area")
    size = size[good, None]
    first, second = (b - a)[good], (c - a)[good]
    along = (first * dv2[good, None] - second * dv1[good, None]) / size
    down = (second * du1[good, None] - first * du2[good, None]) / size
    lengths = [float(np.median(np.linalg.norm(v, axis=1))) for v in (along, down)]
    return lengths[0], lengths[1]


def write_mesh(path: Path, mesh: Mesh) -> None:
    """Write a mesh as OBJ or binary PLY, by the name's ending.

    Parameters
    ----------
    path : Path
        File to write, ``.obj`` or ``.ply``.
    mesh : Mesh
        Triangles.

    Raises
    ------
    ParamsError
        If the ending is neither.
    """
    from tracer.atomic import write_bytes

    if path.suffix.lower() == ".obj":
        write_bytes(path, _as_obj(mesh))
    elif path.suffix.lower() == ".ply":
        write_bytes(path, _as_ply(mesh))
    else:
        raise ParamsError(f"{path}: name it .obj or .ply")


def _as_obj(mesh: Mesh) -> bytes:
    lines = ["# tracer: tifxyz as triangles"]
    lines += [f"v {x!r} {y!r} {z!r}" for x, y, z in mesh.points_xyz.tolist()]
    lines += [f"vt {u!r} {v!r}" for u, v in mesh.uv.tolist()]
    lines += [f"vn {x:.6f} {y:.6f} {z:.6f}" for x, y, z in mesh.normals.tolist()]
    lines += [f"f {a}/{a}/{a} {b}/{b}/{b} {c}/{c}/{c}" for a, b, c in (mesh.triangles + 1).tolist()]
    return ("\n".join(lines) + "\n").encode()


def _as_ply(mesh: Mesh) -> bytes:
    names = ("x", "y", "z", "nx", "ny", "nz", "s", "t")
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(mesh.points_xyz)}"]
    header += [f"property double {name}" for name in names]
    header += [f"element face {len(mesh.triangles)}", "property list uchar int vertex_indices"]
    vertices = np.concatenate([mesh.points_xyz, mesh.normals, mesh.uv], axis=1).astype("<f8")
    faces = np.empty(len(mesh.triangles), dtype=[("n", "u1"), ("v", "<i4", 3)])
    faces["n"], faces["v"] = 3, mesh.triangles
    text = "\n".join([*header, "end_header"]) + "\n"
    return text.encode() + vertices.tobytes() + faces.tobytes()


def read_mesh(path: Path) -> Mesh:
    """Return the mesh in an OBJ or PLY file.

    Parameters
    ----------
    path : Path
        The file; it must hold texture coordinates.

    Returns
    -------
    Mesh
        Polygons are cut into triangles, which is right for convex ones.

    Raises
    ------
    FormatError
        If it cannot be read, or has no texture coordinates.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: cannot read ({error.strerror})") from error
    try:
        mesh = _from_ply(data) if data.startswith(b"ply") else _from_obj(data.decode())
    except (ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise FormatError(
            f"{path}: not an OBJ or PLY mesh with texture coordinates ({error})"
        ) from error
    return mesh


def _from_obj(text: str) -> Mesh:
    points: list[list[float]] = []
    uv: list[list[float]] = []
    normals: list[list[float]] = []
    corners: dict[tuple[int, ...], int] = {}
    polygons: list[list[int]] = []
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            points.append([float(word) for word in words[1:4]])
        elif words[0] == "vt":
            uv.append([float(word) for word in words[1:3]])
        elif words[0] == "vn":
            normals.append([float(word) for word in words[1:4]])
        elif words[0] == "f":
            lengths = (len(points), len(uv), len(normals))
            face = []
            for word in words[1:]:
                parts = word.split("/")
                if len(parts) < 2 or not parts[1]:
                    raise ValueError("a face has no texture coordinate")
                key = tuple(
                    (int(p) - 1 if int(p) > 0 else n + int(p)) if p else -1
                    for p, n in zip((*parts, "")[:3], lengths, strict=True)
                )
                face.append(corners.setdefault(key, len(corners)))
            polygons.append(face)
    if not polygons:
        raise ValueError("no face")
    at = np.array(list(corners), np.int64)
    has_normals = bool(normals) and bool((at[:, 2] >= 0).all())
    return Mesh(
        points_xyz=np.array(points)[at[:, 0]],
        uv=np.array(uv)[at[:, 1]],
        normals=np.array(normals)[at[:, 2]] if has_normals else np.empty((0, 3)),
        triangles=_fans(polygons),
    )


def _fans(polygons: Sequence[Sequence[int] | NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return convex polygons as triangles."""
    sizes = {len(face) for face in polygons}
    if min(sizes) < 3:
        raise ValueError("a face has fewer than three corners")
    if len(sizes) == 1:
        whole = np.array(polygons, np.int64)
        fans = [whole[:, [0, k, k + 1]] for k in range(1, whole.shape[1] - 1)]
        return np.stack(fans, axis=1).reshape(-1, 3)
    return np.array(
        [(face[0], face[k], face[k + 1]) for face in polygons for k in range(1, len(face) - 1)],
        np.int64,
    )


def _from_ply(data: bytes) -> Mesh:
    from tracer.convert.ply import parse_ply

    found = parse_ply(data)
    vertices = found.vertices
    points = _columns(vertices, "xyz")
    names = ("nx", "ny", "nz")
    normals = _columns(vertices, names) if set(names) <= set(vertices) else np.empty((0, 3))
    keys = next((pair for pair in _PLY_UV if set(pair) <= set(vertices)), None)
    if keys is not None:
        uv, triangles = _columns(vertices, keys), _fans(found.polygons)
    elif len(found.corner_uv) == len(found.polygons):  # a vertex on a seam has several
        corners = np.concatenate(found.polygons)
        pairs = np.concatenate([corners[:, None], np.concatenate(found.corner_uv)], axis=1)
        known, number = np.unique(pairs, axis=0, return_inverse=True)
        at, uv = known[:, 0].astype(np.int64), known[:, 1:]
        ends = np.cumsum([len(face) for face in found.polygons])[:-1]
        triangles = _fans(np.split(number.ravel(), ends))
        points, normals = points[at], normals[at] if len(normals) else normals
    else:
        raise ValueError("no texture coordinates")
    return Mesh(points_xyz=points, uv=uv, normals=normals, triangles=triangles)


def _columns(vertices: dict[str, NDArray[Any]], names: Sequence[str]) -> NDArray[np.float64]:
    return np.stack([np.asarray(vertices[name], np.float64) for name in names], axis=1)
