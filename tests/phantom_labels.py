"""The true recto of a phantom as a label volume."""

import numpy as np

from tracer.phantom import Truth
from tracer.volume_writer import VolumeWriter

HALF_WIDTH = 2.0


def label_volume(scroll):
    """Return the path of a volume that is 255 within HALF_WIDTH voxels of the recto."""
    truth = Truth.load(scroll)
    depth, height, width = truth.size_zyx
    out = np.zeros(truth.size_zyx, np.uint8)
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    for z in range(depth):
        points = np.stack([x, y, np.full_like(x, z)], axis=-1).reshape(-1, 3).astype(np.float64)
        there = np.abs(truth.distance(points)) <= HALF_WIDTH
        there &= truth.inside(points)
        there &= truth.exists(truth.arc_length(points), points[:, 2])
        out[z] = np.where(there, 255, 0).reshape(height, width)
    path = scroll / "label.zarr"
    writer = VolumeWriter.create(path, out.shape, out.dtype, truth.voxel_size_um)
    writer.write((0, 0, 0), out)
    writer.finish("max")
    return path
