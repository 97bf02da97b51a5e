"""Oracles of the consensus trace: obvious loops, SciPy, importing nothing of ours."""

import math

import numpy as np
from scipy.optimize import least_squares

OFFSETS = [(i // 5 - 2, i % 5 - 2) for i in range(25)]
DIRECT = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)]
LINES = [
    [(0, -2), (0, -1), (0, 0)],
    [(0, -1), (0, 0), (0, 1)],
    [(0, 0), (0, 1), (0, 2)],
    [(-2, 0), (-1, 0), (0, 0)],
    [(-1, 0), (0, 0), (1, 0)],
    [(0, 0), (1, 0), (2, 0)],
]


def residuals(around, here, target, distance_weight, straight_weight):
    """Return (distances, straightness) of a location among those around it: {offset: location}."""
    every = {**around, (0, 0): np.asarray(here, float)}
    distances, bends = [], []
    for offset in DIRECT:
        if offset in around:
            wanted = target * math.hypot(*offset)
            d = float(np.linalg.norm(every[0, 0] - every[offset]))
            off = d / wanted - 1.0 if d >= wanted else wanted / max(d, 1e-300) - 1.0
            distances.append(distance_weight * off)
    for line in LINES:
        if all(offset in every for offset in line):
            a, b, c = (every[offset] for offset in line)
            u, v = b - a, c - b
            cosine = u @ v / (np.linalg.norm(u) * np.linalg.norm(v))
            bends.append(straight_weight * (1.0 - cosine))
    return distances, bends


def best_rotation(around, target, hand):
    """Return where the node should be and the misfit, by Kabsch's method."""
    offsets = np.array([(r, hand * c) for r, c in around], float)
    places = np.array(list(around.values()), float)
    weight = 1.0 / (offsets**2).sum(axis=1)
    mean_o = weight @ offsets / weight.sum()
    mean_p = weight @ places / weight.sum()
    h = (offsets - mean_o).T @ (weight[:, None] * (places - mean_p))
    u, _, vt = np.linalg.svd(h)
    flip = np.diag([1.0, np.sign(np.linalg.det(vt.T @ u.T))])
    turn = target * vt.T @ flip @ u.T
    laid = mean_p + (offsets - mean_o) @ turn.T
    misfit = math.sqrt(((laid - places) ** 2).sum(axis=1).mean())
    return mean_p - turn @ mean_o, misfit


def best_location(around, start, target, weights, height):
    """Return the location of least cost; ``height(row, col)`` is the residual of height."""

    def all_residuals(here):
        distances, bends = residuals(around, here, target, *weights)
        z = height(*here)
        # Huber's loss of one residual, as a residual
        bent = z if abs(z) <= 1.0 else math.copysign(math.sqrt(2.0 * abs(z) - 1.0), z)
        return np.array([*distances, *bends, bent])

    return least_squares(all_residuals, start, xtol=1e-12, ftol=1e-12, gtol=1e-12).x
