"""Find a random point on the prediction, the way VC3D does: a ray from a random point.

A chunk is drawn, a point in it and a direction; the first sheet voxel within 128 steps is the seed.
Everything follows from one generator, so that a seed depends on (rng_seed, item index) only.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tracer.errors import NothingFoundError

if TYPE_CHECKING:
    from tracer.volume import Volume

_STEPS = 128  # voxels that a ray walks
_MARGIN = 128  # voxels kept from the volume's border, or an eighth of a smaller volume
_MAX_TRIES = 1000


def find_random_seed(
    volume: "Volume", threshold: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return a random point on the prediction.

    Parameters
    ----------
    volume : Volume
        Surface prediction.
    threshold : int
        Voxels of at least this value are sheet.
    rng : numpy Generator
        Source of all randomness.

    Returns
    -------
    ndarray of float64, shape (3,)
        Voxel on the sheet, x, y, z.

    Raises
    ------
    NothingFoundError
        If no ray of 1,000 met the prediction.
    """
    shape = np.array(volume.shape_zyx)
    margin = np.minimum(_MARGIN, shape // 8)
    chunk = np.array(volume.chunk_shape_zyx(0))
    for _ in range(_MAX_TRIES):
        start = margin + rng.random(3) * (shape - 1 - 2 * margin)
        direction = rng.normal(size=3)
        index = (start // chunk).astype(int)
        if not volume.chunk_exists(0, tuple(int(i) for i in index)):
            continue
        direction /= np.linalg.norm(direction)
        ray = np.floor(start + np.arange(_STEPS)[:, None] * direction + 0.5).astype(int)
        ray = ray[((ray >= margin) & (ray < shape - margin)).all(axis=1)]
        if len(ray) == 0:
            continue
        low = ray.min(axis=0)
        box = volume.read(0, tuple(low.tolist()), tuple((ray.max(axis=0) + 1).tolist()))
        on_sheet = box[tuple((ray - low).T)] >= threshold
        if on_sheet.any():
            seed: NDArray[np.float64] = ray[int(on_sheet.argmax())][::-1].astype(np.float64)
            return seed
    raise NothingFoundError(
        f"{volume.path}: none of {_MAX_TRIES} random rays met a voxel >= {threshold}; is this a "
        "surface prediction?"
    )
