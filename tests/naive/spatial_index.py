"""Brute force over all quads of all patches; imports nothing of ours."""

import numpy as np
from naive import quad_distance


def near(grids, point, tolerance):
    """Return {patch: (distance, row, col)} of grids (rows, cols, 3) with NaN where invalid."""
    found = {}
    for patch, grid in grids.items():
        best = (np.inf, 0.0, 0.0)
        for row in range(grid.shape[0] - 1):
            for col in range(grid.shape[1] - 1):
                corners = grid[row : row + 2, col : col + 2].astype(np.float64)
                if np.isnan(corners).any():
                    continue
                low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
                gap = np.maximum(np.maximum(low - point, point - high), 0)
                if np.linalg.norm(gap) > min(tolerance, best[0]) + 1e-6:
                    continue
                distance, v, u = quad_distance.closest(corners, point, n=201, rounds=50)
                if distance < best[0]:
                    best = (distance, row + v, col + u)
        if best[0] <= tolerance:
            found[patch] = best
    return found


def samples(grid):
    """Return corners and centres of the valid quads."""
    points = set()
    for row in range(grid.shape[0] - 1):
        for col in range(grid.shape[1] - 1):
            corners = grid[row : row + 2, col : col + 2].astype(np.float64).reshape(4, 3)
            if not np.isnan(corners).any():
                points.update(map(tuple, corners))
                points.add(tuple(corners.mean(axis=0)))
    return np.array(sorted(points)).reshape(-1, 3)


def overlap(a, b, tolerance):
    """Return whether a sample of one grid lies within the tolerance of the other."""
    return any(near({0: b}, p, tolerance) for p in samples(a)) or any(
        near({0: a}, p, tolerance) for p in samples(b)
    )
