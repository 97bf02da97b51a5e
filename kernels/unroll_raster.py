"""Resample quads that are laid out in a plane on a regular grid, and combine what overlaps.

A quad maps the unit square to the plane (u, v) and to space, both bilinearly; at a node of the
plane's grid the first map is inverted and the second one evaluated, so that the detail of the
patches is kept to the last digit.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel

_NEWTON_STEPS = 12
_ON_BORDER = 1e-9  # cells; a node on an edge may belong to both quads, never to neither
_SHORTEST = 1e-3  # nodes; sides of quads that count as such
_ROUNDS = 12  # of reweighting per node; it has settled after about five


@inline_kernel
def invert_quad(
    u: float,
    v: float,
    corners_uv: tuple[float, float, float, float, float, float, float, float],
    beyond_s: float,
    beyond_t: float,
) -> tuple[float, float, bool]:
    """Return where in a bilinear quad of the plane, or how far beyond it, a point lies.

    Parameters
    ----------
    u : float
        The point.
    v : float
        The point.
    corners_uv : tuple of float
        u and v of the corners 00, 01, 10, 11.
    beyond_s, beyond_t : float
        How far beyond the quad still counts as inside, in its sides.

    Returns
    -------
    tuple
        (s, t, inside).
    """
    u0, v0, u1, v1, u2, v2, u3, v3 = corners_uv
    bu = u1 - u0
    bv = v1 - v0
    cu = u2 - u0
    cv = v2 - v0
    du = u3 - u1 - cu
    dv = v3 - v1 - cv
    s = 0.5
    t = 0.5
    for _ in range(_NEWTON_STEPS):
        ru = u - u0 - s * bu - t * cu - s * t * du
        rv = v - v0 - s * bv - t * cv - s * t * dv
        au = bu + t * du
        av = bv + t * dv
        eu = cu + s * du
        ev = cv + s * dv
        determinant = au * ev - av * eu
        if determinant == 0.0:
            return 0.0, 0.0, False
        ds = (ru * ev - rv * eu) / determinant
        dt = (au * rv - av * ru) / determinant
        s += ds
        t += dt
        if abs(ds) + abs(dt) < 1e-12:
            break
        if abs(s) + abs(t) > 100.0:
            return 0.0, 0.0, False
    inside = -beyond_s <= s <= 1.0 + beyond_s and -beyond_t <= t <= 1.0 + beyond_t
    return s, t, inside


@kernel
def rasterise_quads(
    quads: NDArray[np.int32],
    uv: NDArray[np.float64],
    values: NDArray[np.float64],
    origin: NDArray[np.float64],
    step: float,
    wanted: NDArray[np.bool_],
    reach: float,
    out_node: NDArray[np.int64],
    out_quad: NDArray[np.int32],
    out_value: NDArray[np.float32],
) -> int:
    """Fill the samples of all quads at the nodes of a grid.

    Parameters
    ----------
    quads : ndarray of int32, shape (q, 4)
        Corners 00, 01, 10, 11.
    uv : ndarray of float64, shape (n, 2)
        Plane coordinates of the vertices.
    values : ndarray of float64, shape (n, k)
        What is interpolated.
    origin : ndarray of float64, shape (2,)
        u and v of node (0, 0).
    step : float
        Distance of the nodes.
    wanted : ndarray of bool, shape (rows, cols)
        Nodes to sample; rows along v, columns along u.
    reach : float
        How far beyond its sides a quad is continued, nodes; 0 for not at all.
    out_node : ndarray of int64, shape (capacity,)
        row * cols + col of each sample.
    out_quad : ndarray of int32, shape (capacity,)
        Where it comes from.
    out_value : ndarray of float32, shape (capacity, k)
        Interpolated values.

    Returns
    -------
    int
        Number of samples; where it exceeds the capacity only the first ones were written.
    """
    rows, cols = wanted.shape
    n_found = 0
    for q in range(quads.shape[0]):
        a = quads[q, 0]
        b = quads[q, 1]
        c = quads[q, 2]
        d = quads[q, 3]
        corners = (
            (uv[a, 0] - origin[0]) / step,
            (uv[a, 1] - origin[1]) / step,
            (uv[b, 0] - origin[0]) / step,
            (uv[b, 1] - origin[1]) / step,
            (uv[c, 0] - origin[0]) / step,
            (uv[c, 1] - origin[1]) / step,
            (uv[d, 0] - origin[0]) / step,
            (uv[d, 1] - origin[1]) / step,
        )
        u_low = min(min(corners[0], corners[2]), min(corners[4], corners[6])) - reach
        u_high = max(max(corners[0], corners[2]), max(corners[4], corners[6])) + reach
        v_low = min(min(corners[1], corners[3]), min(corners[5], corners[7])) - reach
        v_high = max(max(corners[1], corners[3]), max(corners[5], corners[7])) + reach
        beyond_s = _ON_BORDER
        beyond_t = _ON_BORDER
        if reach > 0.0:
            beyond_s += reach / max(
                math.hypot(corners[2] - corners[0], corners[3] - corners[1]), 1e-3
            )
            beyond_t += reach / max(
                math.hypot(corners[4] - corners[0], corners[5] - corners[1]), 1e-3
            )
        if not (u_high >= 0.0 and v_high >= 0.0 and u_low <= cols - 1 and v_low <= rows - 1):
            continue
        for row in range(max(0, math.ceil(v_low)), min(rows - 1, math.floor(v_high)) + 1):
            for col in range(max(0, math.ceil(u_low)), min(cols - 1, math.floor(u_high)) + 1):
                if not wanted[row, col]:
                    continue
                s, t, inside = invert_quad(
                    np.float64(col), np.float64(row), corners, beyond_s, beyond_t
                )
                if not inside:
                    continue
                if n_found < out_node.shape[0]:
                    out_node[n_found] = np.int64(row) * cols + col
                    out_quad[n_found] = q
                    for k in range(values.shape[1]):
                        out_value[n_found, k] = (
                            (1.0 - s) * (1.0 - t) * values[a, k]
                            + s * (1.0 - t) * values[b, k]
                            + (1.0 - s) * t * values[c, k]
                            + s * t * values[d, k]
                        )
                n_found += 1
    return n_found


@kernel
def combine_samples(
    starts: NDArray[np.int64],
    points_xyz: NDArray[np.float32],
    weights: NDArray[np.float32],
    scale: float,
    apart: float,
    out_xyz: NDArray[np.float64],
    out_agreeing: NDArray[np.float64],
    out_share: NDArray[np.float64],
    out_spread: NDArray[np.float64],
    out_is_outlier: NDArray[np.bool_],
) -> None:
    """Fill the robust mean of the samples of every node.

    Parameters
    ----------
    starts : ndarray of int64, shape (m + 1,)
        Where the samples of each node begin.
    points_xyz : ndarray of float32, shape (k, 3)
        Samples, node by node.
    weights : ndarray of float32, shape (k,)
        Positive weights.
    scale : float
        Distance at which a sample counts half, voxels.
    apart : float
        Distance from which on a sample is at another place, voxels.
    out_xyz : ndarray of float64, shape (m, 3)
        Mean; NaN for a node without samples.
    out_agreeing : ndarray of float64, shape (m,)
        Number of samples at the same place.
    out_share : ndarray of float64, shape (m,)
        Their share of the weight.
    out_spread : ndarray of float64, shape (m,)
        Weighted mean distance of the samples at the same place from the mean, voxels.
    out_is_outlier : ndarray of bool, shape (k,)
        Samples at another place.

    Notes
    -----
    Starts at the sample with the densest neighbourhood, then Cauchy weights: samples of a sheet
    that was mistaken for this one never pull the mean half-way.
    """
    for m in range(starts.shape[0] - 1):
        first = starts[m]
        last = starts[m + 1]
        out_xyz[m, 0] = math.nan
        out_xyz[m, 1] = math.nan
        out_xyz[m, 2] = math.nan
        out_agreeing[m] = 0.0
        out_share[m] = 0.0
        out_spread[m] = 0.0
        if first == last:
            continue
        best = -1.0
        x = 0.0
        y = 0.0
        z = 0.0
        for i in range(first, last):
            density = 0.0
            for j in range(first, last):
                dx = np.float64(points_xyz[i, 0]) - points_xyz[j, 0]
                dy = np.float64(points_xyz[i, 1]) - points_xyz[j, 1]
                dz = np.float64(points_xyz[i, 2]) - points_xyz[j, 2]
                density += weights[j] / (1.0 + (dx * dx + dy * dy + dz * dz) / (scale * scale))
            if density > best:
                best = density
                x = np.float64(points_xyz[i, 0])
                y = np.float64(points_xyz[i, 1])
                z = np.float64(points_xyz[i, 2])
        for _ in range(_ROUNDS):
            sw = 0.0
            sx = 0.0
            sy = 0.0
            sz = 0.0
            for i in range(first, last):
                dx = points_xyz[i, 0] - x
                dy = points_xyz[i, 1] - y
                dz = points_xyz[i, 2] - z
                d2 = dx * dx + dy * dy + dz * dz
                if d2 > apart * apart:
                    continue
                w = weights[i] / (1.0 + d2 / (scale * scale))
                sw += w
                sx += w * dx
                sy += w * dy
                sz += w * dz
            if sw <= 0.0:
                break
            x += sx / sw
            y += sy / sw
            z += sz / sw
            if abs(sx) + abs(sy) + abs(sz) < 1e-4 * sw:
                break
        inside = 0.0
        total = 0.0
        spread = 0.0
        for i in range(first, last):
            dx = points_xyz[i, 0] - x
            dy = points_xyz[i, 1] - y
            dz = points_xyz[i, 2] - z
            d = math.sqrt(dx * dx + dy * dy + dz * dz)
            total += weights[i]
            out_is_outlier[i] = d > apart
            if d <= apart:
                inside += weights[i]
                spread += weights[i] * d
                out_agreeing[m] += 1.0
        out_xyz[m, 0] = x
        out_xyz[m, 1] = y
        out_xyz[m, 2] = z
        if total > 0.0:
            out_share[m] = inside / total
        if inside > 0.0:
            out_spread[m] = spread / inside
