"""Blocks and halos."""

import numpy as np
import pytest
from array_volume import ArrayVolume

from tracer.predict.blocks import iterate_blocks, read_with_halo


@pytest.mark.parametrize("shape", [(5, 7, 9), (8, 8, 8), (1, 1, 1), (20, 3, 4)])
def test_iterate_blocks__cover_every_voxel_once(shape):
    seen = np.zeros(shape, int)
    for number, block in enumerate(iterate_blocks(shape, 4)):
        assert block.number == number
        seen[tuple(slice(a, b) for a, b in zip(block.start_zyx, block.stop_zyx, strict=True))] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("shape", [(5, 7, 9), (4, 4, 4), (1, 2, 3)])
def test_read_with_halo__repeats_the_outermost_voxels(shape):
    array = np.random.default_rng(1).integers(0, 255, shape).astype(np.uint8)
    padded = np.pad(array, 12, mode="edge")
    for block in iterate_blocks(shape, 4):
        out = read_with_halo(ArrayVolume(array), block, 6)
        assert all(extent % 2 == 0 for extent in out.shape)
        corner = [12 + a - 6 for a in block.start_zyx]
        expected = padded[tuple(slice(a, a + n) for a, n in zip(corner, out.shape, strict=True))]
        np.testing.assert_array_equal(out, expected)
