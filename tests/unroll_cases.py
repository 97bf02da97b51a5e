"""Collections of patches cut out of a spiral with known truth, with jumps planted on demand."""

import numpy as np

from tracer.surface import Surface

PITCH = 24.0
CENTRE = (150.0, 150.0)
FIRST, LAST = 2.0, 5.0  # turns


def spiral(theta, z):
    """Return points on an Archimedean spiral, its axis slightly bent and off the origin."""
    radius = PITCH * theta / (2 * np.pi)
    x = CENTRE[0] + radius * np.cos(theta) + 3 * np.sin(z / 60)
    y = CENTRE[1] + radius * np.sin(theta)
    return np.stack([x, y, z], axis=-1)


def theta_of(points_xyz):
    """Return the total angle of points near the spiral."""
    x = points_xyz[..., 0] - CENTRE[0] - 3 * np.sin(points_xyz[..., 2] / 60)
    y = points_xyz[..., 1] - CENTRE[1]
    azimuth = np.arctan2(y, x) % (2 * np.pi)
    turns = np.round(np.hypot(x, y) / PITCH - azimuth / (2 * np.pi))
    return azimuth + 2 * np.pi * turns


def arc_of(theta):
    """Return the arc length, to first order."""
    return PITCH * theta**2 / (4 * np.pi)


def patch(
    theta,
    z,
    *,
    rows=12,
    cols=14,
    step=10.0,
    angle=0.0,
    jump=0,
    noise=0.0,
    seed=0,
    name="",
    top=155.0,
):
    """Return a patch on the spiral; with `jump` its right half lies so many wraps off."""
    down, right = np.meshgrid(
        (np.arange(rows) - rows / 2) * step, (np.arange(cols) - cols / 2) * step, indexing="ij"
    )
    arc = arc_of(theta) + np.cos(angle) * right - np.sin(angle) * down
    height = z + np.sin(angle) * right + np.cos(angle) * down
    at = np.sqrt(np.maximum(arc, 1.0) * 4 * np.pi / PITCH)
    points = spiral(at, height)
    if jump:
        share = np.clip((np.arange(cols) - cols / 2) / 2, 0, 1)[None, :, None]
        points = (1 - share) * points + share * spiral(at + 2 * np.pi * jump, height)
    points = points + np.random.default_rng([7, seed]).normal(0, noise, points.shape)
    low, high = 2 * np.pi * FIRST, 2 * np.pi * LAST
    valid = (at > low) & (at < high) & (height > 5) & (height < top)
    return Surface(
        points_xyz=np.where(valid[..., None], points, -1).astype(np.float32),
        valid=valid,
        scale=(1 / step, 1 / step),
        meta={"uuid": name or f"patch_{seed:03d}"},
    )


def collection(n=90, *, jumping=(), seed=1, noise=0.2, z=(10.0, 150.0), theta=None):
    """Return `n` patches at random places; those in `jumping` cross to the next wrap."""
    rng = np.random.default_rng([seed])
    low, high = theta or (2 * np.pi * FIRST + 0.2, 2 * np.pi * LAST - 0.2)
    patches = []
    for k in range(n):
        at, height, angle = rng.uniform(low**2, high**2) ** 0.5, rng.uniform(*z), rng.uniform(0, 6)
        jump = 1 if k in jumping else 0
        if jump:
            at = min(at, high - 2 * np.pi)
        patches.append(
            patch(at, height, angle=angle, jump=jump, noise=noise, seed=k, name=f"patch_{k:03d}")
        )
    return [p for p in patches if p.valid.sum() >= 30]


def band_voxels(shape=(160, 300, 300)):
    """Return the spiral as a prediction five voxels thick."""
    z, y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij")
    points = np.stack([x, y, z], axis=-1)
    theta = theta_of(points)
    gap = np.linalg.norm(points - spiral(theta, z), axis=-1)
    inside = (gap < 2.5) & (theta > 2 * np.pi * FIRST) & (theta < 2 * np.pi * LAST)
    return np.where(inside & (z > 8) & (z < 152), 255, 0).astype(np.uint8)
