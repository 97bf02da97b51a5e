"""Closest point of a bilinear quad; imports nothing of ours.

For a fixed column fraction the quad is a straight segment, whose closest point is elementary. What
is left is a function of one variable, searched on a dense grid and refined around its minimum.
"""

import numpy as np


def closest(corners, point, n=4001, rounds=60):
    """Return (distance, row fraction, col fraction) for corners (2, 2, 3) indexed [row, col]."""
    corners = np.asarray(corners, dtype=np.float64)

    def best_of(u):
        start = corners[0, 0] + u[:, None] * (corners[0, 1] - corners[0, 0])
        along = corners[1, 0] + u[:, None] * (corners[1, 1] - corners[1, 0]) - start
        length2 = (along**2).sum(axis=1)
        v = ((point - start) * along).sum(axis=1) / np.where(length2 > 0, length2, 1)
        v = np.clip(v, 0, 1)
        distance = np.linalg.norm(start + v[:, None] * along - point, axis=1)
        at = np.argmin(distance)
        return distance[at], v[at], u[at]

    best = best_of(np.linspace(0, 1, n))
    width = 1 / (n - 1)
    for _ in range(rounds):
        found = best_of(np.clip(best[2] + np.linspace(-1, 1, 9) * width, 0, 1))
        if found[0] < best[0]:
            best = found
        width *= 0.6
    return best
