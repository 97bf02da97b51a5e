"""Rendering by the book: whole volume in memory, SciPy interpolation, plain loops."""

import numpy as np
from scipy.ndimage import map_coordinates


def bilinear(grid, rows, cols):
    """Return a grid (rows, cols, 3) at every combination of fractional rows and columns."""
    rows, cols = np.meshgrid(rows, cols, indexing="ij")
    return np.stack(
        [
            map_coordinates(grid[..., axis].astype(np.float64), [rows, cols], order=1)
            for axis in range(3)
        ],
        axis=-1,
    )


def valid_pixels(valid, rows, cols):
    """Return where every vertex with a weight is valid, pixel by pixel."""
    out = np.zeros((len(rows), len(cols)), dtype=bool)
    for i, row in enumerate(rows):
        for j, col in enumerate(cols):
            around = [
                (r, c)
                for r in {int(np.floor(row)), int(np.ceil(row))}
                for c in {int(np.floor(col)), int(np.ceil(col))}
            ]
            inside = all(0 <= r < valid.shape[0] and 0 <= c < valid.shape[1] for r, c in around)
            out[i, j] = inside and all(valid[at] for at in around)
    return out


def sample_points(points, normals, valid, rows, cols, offsets, level):
    """Return coordinates z, y, x in voxels of the level, (layers, height, width, 3), and where."""
    ok = valid_pixels(valid, rows, cols)
    at = bilinear(np.where(valid[..., None], points, 0), rows, cols)
    normal = bilinear(np.nan_to_num(normals), rows, cols)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    undefined = np.isnan(normals).any(axis=-1)
    ok &= valid_pixels(~undefined, rows, cols) & (length[..., 0] > 0)
    normal = normal / np.where(length > 0, length, 1)
    coordinates = at[None] + np.asarray(offsets)[:, None, None, None] * normal[None]
    return ((coordinates + 0.5) / 2**level - 0.5)[..., ::-1], ok


def render(volume, points, normals, valid, rows, cols, offsets, level=0, gain=1.0):
    """Return unrounded layers (layers, height, width), 0 where invalid; and the valid pixels."""
    where, ok = sample_points(points, normals, valid, rows, cols, offsets, level)
    values = map_coordinates(
        volume.astype(np.float64),
        np.moveaxis(where, -1, 0),
        order=1,
        mode="grid-constant",
        cval=0.0,
    )
    return np.where(ok[None], values * gain, 0.0), ok


def touched_chunks(shape, chunk, where, ok):
    """Return the chunks with a corner of a sampled cell, as a set, sample by sample."""
    touched = set()
    for z, y, x in where[:, ok].reshape(-1, 3):
        low = np.floor([z, y, x]).astype(int)
        for corner in np.ndindex(2, 2, 2):
            at = low + corner
            if (at >= 0).all() and (at < shape).all():
                touched.add(tuple(int(i) for i in at // chunk))
    return touched


def alpha_composite(layers, low, high, opacity, cutoff):
    """Return the front-to-back blend of layers (layers, height, width), the last in front."""
    out = np.zeros(layers.shape[1:])
    for at in np.ndindex(*out.shape):
        through = 1.0
        for value in layers[(slice(None, None, -1), *at)]:
            alpha = opacity * np.clip((value - low) / (high - low), 0, 1)
            out[at] += through * alpha * value
            through *= 1 - alpha
            if 1 - through >= cutoff:
                break
    return out
