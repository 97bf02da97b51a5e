"""Judge whether a vertex of a growing patch lies on one single sheet, that of its neighbours.

A vertex is judged by scans across the sheet (:mod:`tracer.kernels.sheet_probe`), at the vertex, on
a ring around it and along its edges, and by how the mesh continues from vertex to vertex.

Coordinates are voxels in the order x, y, z; grids are indexed ``[row, col]``.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import kernel
from tracer.kernels.field_sampling import FieldView, sample_field
from tracer.kernels.growth_grid import (
    ACCEPT,
    FOLD,
    OFF_PREDICTION,
    OUTSIDE,
    ROUGH,
    SLIP,
    THICK,
    TILT,
    VALLEY,
    GrowthLimits,
    PatchGrid,
    mesh_normal,
)
from tracer.kernels.placement import ON_SHEET
from tracer.kernels.sheet_probe import probe_sheet, scan_across, tangents

_SLIP_FLOOR = 1.5  # voxels: what the noise of positions and scans amounts to at short steps
_ROWS4 = (0, 0, 1, -1)
_COLS4 = (1, -1, 0, 0)


@kernel
def judge_edges(
    grid: PatchGrid,
    row: int,
    col: int,
    view: FieldView,
    position: NDArray[np.float64],
    normal: NDArray[np.float64],
    thickness_limit: float,
    samples: int,
    limits: GrowthLimits,
) -> int:
    """Return why the edges from a vertex to its accepted 4-neighbours are refused.

    Parameters
    ----------
    grid : PatchGrid
        The patch.
    row, col : int
        The vertex.
    view : FieldView
        Signed distance field around it.
    position : ndarray of float64, shape (3,)
        Where the vertex is.
    normal : ndarray of float64, shape (3,)
        Unit normal of the mesh there.
    thickness_limit : float
        Thickest run of a single sheet, voxels.
    samples : int
        Interior samples per edge.
    limits : GrowthLimits
        Limits of acceptance.

    Returns
    -------
    int
        ACCEPT, OFF_PREDICTION, THICK or VALLEY.
    """
    thick = 0
    signed, _, _, _, _ = sample_field(view, position[0], position[1], position[2])
    if signed > limits.worst_distance:
        return OFF_PREDICTION
    for k in range(4):
        r, c = row + _ROWS4[k], col + _COLS4[k]
        if grid.state[r, c] != ON_SHEET:
            continue
        for i in range(1, samples + 1):
            t = i / (samples + 1)
            x = position[0] * (1.0 - t) + grid.points[r, c, 0] * t
            y = position[1] * (1.0 - t) + grid.points[r, c, 1] * t
            z = position[2] * (1.0 - t) + grid.points[r, c, 2] * t
            signed, _, _, _, _ = sample_field(view, x, y, z)
            if signed > limits.worst_distance:
                return OFF_PREDICTION
            if i % 2 == 1:
                continue
            scan = scan_across(view, x, y, z, normal[0], normal[1], normal[2], limits.probe_reach)
            if scan.found and scan.other < 0.5 * limits.probe_reach:
                return VALLEY
            if scan.thickness > thickness_limit:
                thick += 1
    if thick > 1:
        return THICK
    return ACCEPT


@kernel
def judge_vertex(
    grid: PatchGrid,
    row: int,
    col: int,
    view: FieldView,
    position: NDArray[np.float64],
    thickness: float,
    samples: int,
    limits: GrowthLimits,
    work: NDArray[np.float64],
) -> int:
    """Return whether a vertex lies on a single sheet, along it, and is connected by it.

    Parameters
    ----------
    grid : PatchGrid
        The patch.
    row, col : int
        The vertex.
    view : FieldView
        Signed distance field around it.
    position : ndarray of float64, shape (3,)
        Where the vertex is.
    thickness : float
        Thickness of the patch's sheet so far, voxels.
    samples : int
        Interior samples per edge.
    limits : GrowthLimits
        Limits of acceptance.
    work : ndarray of float64, shape (WORK_ROWS, 9)
        Scratch. Afterwards ``work[3, 6:9]`` holds the sheet normal and ``work[4, :3]`` confidence,
        sine of the tilt and thickness of the sheet here.

    Returns
    -------
    int
        ACCEPT or the reason.
    """
    out_normal, out_quality, centres = work[3][6:9], work[4][:3], work[5:8].reshape((9, 3))
    px, py, pz = position[0], position[1], position[2]
    _, _, _, _, inside_volume = sample_field(view, px, py, pz)
    if not inside_volume:
        return OUTSIDE
    nx, ny, nz, known = mesh_normal(grid, row, col, px, py, pz)
    if not known:
        return FOLD
    limit = limits.thickness_factor * thickness + 1.0
    out_normal[0], out_normal[1], out_normal[2] = nx, ny, nz
    reason = judge_edges(grid, row, col, view, position, out_normal, limit, samples, limits)
    if reason != ACCEPT:
        return reason
    probe = probe_sheet(
        view, px, py, pz, nx, ny, nz, limits.probe_radius, limits.probe_reach, limit, centres
    )
    out_quality[0] = probe.clean / 9.0
    out_quality[1] = 0.0
    out_quality[2] = probe.thickness
    if probe.thick > limits.max_thick or probe.centre_thick:
        return THICK
    if probe.clean < 4:
        return OFF_PREDICTION
    if probe.rms > limits.max_rough:
        return ROUGH
    ux, uy, uz, vx, vy, vz = tangents(nx, ny, nz)
    sx = nx - probe.slope_u * ux - probe.slope_v * vx
    sy = ny - probe.slope_u * uy - probe.slope_v * vy
    sz = nz - probe.slope_u * uz - probe.slope_v * vz
    length = math.sqrt(sx * sx + sy * sy + sz * sz)
    sx, sy, sz = sx / length, sy / length, sz / length
    tilt = math.sqrt(max(0.0, 1.0 - 1.0 / (length * length)))
    out_normal[0], out_normal[1], out_normal[2] = sx, sy, sz
    out_quality[1] = tilt
    if tilt > limits.max_tilt:
        return TILT
    return judge_neighbours(grid, row, col, position, out_normal, limits)


@kernel
def judge_neighbours(
    grid: PatchGrid,
    row: int,
    col: int,
    position: NDArray[np.float64],
    normal: NDArray[np.float64],
    limits: GrowthLimits,
) -> int:
    """Return whether a vertex continues the sheet of its accepted neighbours.

    Parameters
    ----------
    grid : PatchGrid
        The patch.
    row, col : int
        The vertex.
    position : ndarray of float64, shape (3,)
        Where it is.
    normal : ndarray of float64, shape (3,)
        Its unit sheet normal.
    limits : GrowthLimits
        Limits of acceptance.

    Returns
    -------
    int
        ACCEPT, TILT where the normals turn too much, SLIP where a neighbour lies on another sheet.
    """
    for k in range(9):
        r, c = row - 1 + k // 3, col - 1 + k % 3
        if k == 4 or grid.state[r, c] != ON_SHEET:
            continue
        cos = along = edge2 = mean2 = 0.0
        for a in range(3):
            edge = grid.points[r, c, a] - position[a]
            mean = grid.normals[r, c, a] + normal[a]
            cos += grid.normals[r, c, a] * normal[a]
            along += edge * mean
            edge2 += edge * edge
            mean2 += mean * mean
        if cos < 0.0 or (k % 2 == 1 and 1.0 - cos * cos > limits.max_turn * limits.max_turn):
            return TILT
        offset = abs(along) / math.sqrt(max(mean2, 1e-12))
        if offset > max(_SLIP_FLOOR, limits.max_slip * math.sqrt(edge2)):
            return SLIP
    return ACCEPT
