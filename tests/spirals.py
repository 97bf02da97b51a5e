"""Traces on an Archimedean spiral with known winding, with jumps and holes on demand."""

import numpy as np

from tracer.surface import Surface

STEP, PITCH = 20.0, 28.0


def spiral(n_wraps, *, inner=60.0, rows=14, noise=0.0, jump=None, holes=False):
    """Return a surface on an Archimedean spiral, its true winding, and whether edges may jump."""
    rng = np.random.default_rng([7])
    total = n_wraps * (2 * inner + n_wraps * PITCH) * np.pi
    arc = np.arange(0, total, STEP)
    # arc = pi * turns * (2 inner + turns * pitch), solved for the turns
    turns = (np.sqrt(inner**2 + PITCH * arc / np.pi) - inner) / PITCH
    turns = np.repeat(turns[None], rows, axis=0)
    if jump is not None:
        turns = turns + np.clip((np.arange(len(arc)) - jump) / 2, 0, 1)
    radius = inner + PITCH * turns
    if jump is not None:  # on the way from wrap to wrap the angle goes on
        angle = 2 * np.pi * np.broadcast_to(spiral(n_wraps, inner=inner, rows=rows)[1], turns.shape)
    else:
        angle = 2 * np.pi * turns
    z = np.repeat(40 + STEP * np.arange(rows)[:, None], len(arc), axis=1)
    points = np.stack([500 + radius * np.cos(angle), 500 + radius * np.sin(angle), z], axis=-1)
    points += rng.normal(0, noise, points.shape) if noise else 0.0
    valid = np.ones(turns.shape, bool)
    if holes:
        valid[3:7, 20:24] = valid[9:, 40:45] = False
    surface = Surface(
        points_xyz=np.where(valid[..., None], points, -1).astype(np.float32),
        valid=valid,
        scale=(1 / STEP, 1 / STEP),
        meta={"uuid": "spiral"},
    )
    return surface, turns
