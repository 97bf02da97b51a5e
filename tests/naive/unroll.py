"""Obvious versions of the unrolling's kernels."""

import itertools

import numpy as np
from scipy.optimize import least_squares


def bilinear(corners, s, t):
    """Return the point of a quad (corners 00, 01, 10, 11) at (s, t)."""
    a, b, c, d = corners
    return (1 - s) * (1 - t) * a + s * (1 - t) * b + (1 - s) * t * c + s * t * d


def nearest_on_quad(corners, point):
    """Return (s, t, distance) of the foot point on the unbounded bilinear patch."""
    found = least_squares(lambda x: bilinear(corners, *x) - point, [0.5, 0.5], xtol=1e-14)
    return found.x[0], found.x[1], np.linalg.norm(found.fun)


def cross_quad(corners, origin, direction):
    """Return (s, t, distance along the line) of the crossing."""
    found = least_squares(
        lambda x: bilinear(corners, x[0], x[1]) - origin - x[2] * direction,
        [0.5, 0.5, np.dot(np.mean(corners, axis=0) - origin, direction)],
        xtol=1e-14,
    )
    return found.x


def best_turns(n_groups, equations, limit=2):
    """Return the least weight of contradicted equations over all turns of few groups."""
    best = np.inf
    for turns in itertools.product(range(-limit, limit + 1), repeat=n_groups - 1):
        turn = (0, *turns)
        cost = sum(w for a, b, shift, w in equations if turn[a] - turn[b] != shift)
        best = min(best, cost)
    return best
