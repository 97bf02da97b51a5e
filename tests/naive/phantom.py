"""Obvious versions of the phantom's geometry and of scoring: loops and SciPy only."""

import itertools

import numpy as np


def place_waves(points, wave_vectors, amplitudes, phases):
    out = np.array(points, float)
    for k, a, phase in zip(wave_vectors, amplitudes, phases, strict=True):
        out += np.array(a) * np.sin(points @ np.array(k) + phase)[:, None]
    return out


def invert_waves(points, wave_vectors, amplitudes, phases, steps=400):
    u = np.array(points, float)
    for _ in range(steps):
        u = u + points - place_waves(u, wave_vectors, amplitudes, phases)
    return u


def winding(points, centre, pitch):
    x, y = points[:, 0] - centre[0], points[:, 1] - centre[1]
    return np.hypot(x, y) / pitch - np.mod(np.arctan2(y, x), 2 * np.pi) / (2 * np.pi)


def triangle_distance(p, a, b, c, n=400):
    """Distance by dense sampling of the triangle; an upper bound, good to its spacing."""
    s, t = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n))
    keep = s + t <= 1 + 1e-12
    s, t = s[keep][:, None], t[keep][:, None]
    return np.linalg.norm(a + s * (b - a) + t * (c - a) - p, axis=1).min()


def near_points(points, valid, samples, limit, n=14):
    """Which samples lie near the four triangles about each quad's centre, by dense sampling."""
    near = np.zeros(len(samples), bool)
    rows, cols = valid.shape
    for r, c in itertools.product(range(rows - 1), range(cols - 1)):
        if not valid[r : r + 2, c : c + 2].all():
            continue
        ring = [points[r, c], points[r, c + 1], points[r + 1, c + 1], points[r + 1, c]]
        middle = np.mean(ring, axis=0)
        for a, b in zip(ring, [*ring[1:], ring[0]], strict=True):
            for i in np.flatnonzero(~near):
                near[i] = triangle_distance(samples[i], a, b, middle, n) <= limit
    return near
