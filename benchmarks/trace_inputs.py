"""Traces cut out of a phantom's true recto: any part or direction, noise, holes, jumps."""

from dataclasses import dataclass

import numpy as np

from tracer.phantom import Truth
from tracer.surface import Surface


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What to cut out.

    Attributes
    ----------
    wraps : float
        Number of wraps; 0 for all.
    step : float
        Voxels between vertices.
    noise : float
        Standard deviation of the vertices, voxels.
    holes : float
        Radius of the discs that are left out, voxels; they cover about a sixth of the trace.
    jump_at : float
        Where the trace jumps a wrap outward, as a share of its length; 0 for nowhere.
    back_at : float
        Where it jumps back.
    rows : tuple of float
        Share of the height that jumps.
    ramp : int
        Cells over which it jumps.
    flip_rows, flip_cols : bool
        Whether the grid runs the other way.
    """

    wraps: float = 0.0
    step: float = 20.0
    noise: float = 0.3
    holes: float = 0.0
    jump_at: float = 0.0
    back_at: float = 0.0
    rows: tuple[float, float] = (0.0, 1.0)
    ramp: int = 2
    flip_rows: bool = False
    flip_cols: bool = False


def cut_out(truth: Truth, cut: Cut, seed: int = 1) -> tuple[Surface, np.ndarray]:
    """Return a trace and where in it a jump was planted (a node per place, NaN for none)."""
    rng = np.random.default_rng([seed])
    first, last = truth.theta_range
    beyond = 2 * np.pi if cut.jump_at else 0.0
    last = min(last - beyond - 0.1, first + 2 * np.pi * cut.wraps if cut.wraps else np.inf)
    begin, end = (float(truth.arc_of_theta(theta)) for theta in (first, last))
    low, high = truth.z_range
    arc = np.arange(begin + 1, end, cut.step)
    height = np.arange(low + cut.step, high - cut.step, cut.step)
    z, along = np.meshgrid(height, arc, indexing="ij")
    theta = truth.theta_of_arc(along)
    points = truth.point(theta, z)
    n_rows, n_cols = z.shape
    if cut.jump_at:
        cols, rows = np.arange(n_cols), np.arange(n_rows) / n_rows
        share = np.clip((cols - int(cut.jump_at * n_cols)) / cut.ramp, 0, 1)
        if cut.back_at:
            share *= np.clip((int(cut.back_at * n_cols) - cols) / cut.ramp, 0, 1)
        inside = (rows >= cut.rows[0]) & (rows < cut.rows[1])
        weight = (share[None] * inside[:, None])[..., None]
        points = (1 - weight) * points + weight * truth.point(theta + 2 * np.pi, z)
    points = points + rng.normal(0, cut.noise, points.shape)
    valid = np.isfinite(points[..., 0])
    if cut.holes:
        n_discs = int((end - begin) * (high - low) / (6 * np.pi * cut.holes**2)) or 1
        for arc_at, z_at in rng.uniform((begin, low), (end, high), (n_discs, 2)):
            valid &= (along - arc_at) ** 2 + (z - z_at) ** 2 > cut.holes**2
    turned = (slice(None, None, -1 if flip else 1) for flip in (cut.flip_rows, cut.flip_cols))
    view = tuple(turned)
    surface = Surface(
        points_xyz=np.where(valid[..., None], points, -1).astype(np.float32)[view],
        valid=valid[view],
        scale=(1 / cut.step, 1 / cut.step),
        meta={"uuid": "cut"},
    )
    places = [int(at * n_cols) for at in (cut.jump_at, cut.back_at) if at]
    if cut.flip_cols:
        places = [n_cols - 1 - place for place in places]
    return surface, np.array(places)
