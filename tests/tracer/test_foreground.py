"""Packed masks of chunks and their borders."""

import numpy as np
import pytest
from field_volume import FieldVolume

from tracer.foreground import Foreground

SHAPE = (140, 20, 262)


def _expected(values, index, border):
    """Return the packed mask of a chunk by padding the whole volume."""
    mask = np.pad(values >= 170, [(border, 256)] * 3)
    box = tuple(slice(128 * i, 128 * i + 129 + 2 * border) for i in index)
    return np.packbits(mask[box], axis=0)


@pytest.mark.parametrize("border", [8, 16, 24])
@pytest.mark.parametrize("stored", [64, 128, 256])
def test_block__equals_the_packed_mask_of_the_padded_volume(border, stored):
    values = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    volume = FieldVolume(values, chunk=stored)
    foreground = Foreground(volume, 170)
    for index in volume.chunk_indices():
        np.testing.assert_array_equal(
            foreground.block(index, border), _expected(values, index, border)
        )


def test_block__is_none_where_the_foreground_ends_just_outside():
    values = np.zeros((300, 20, 20), np.uint8)
    values[137] = 255  # the border of chunk 0 ends with plane 136
    assert Foreground(FieldVolume(values), 170).block((0, 0, 0), 8) is None
    values[136] = 255
    assert Foreground(FieldVolume(values), 170).block((0, 0, 0), 8) is not None


def test_block__reads_again_what_had_to_be_forgotten():
    values = np.full((128, 128, 128 * 40), 255, np.uint8)
    volume = FieldVolume(values)
    foreground = Foreground(volume, 170, cache_bytes=1)
    first = foreground.block((0, 0, 0), 8)
    for k in range(1, 39):
        foreground.block((0, 0, k), 8)
    n_reads = len(volume.reads)
    np.testing.assert_array_equal(foreground.block((0, 0, 0), 8), first)
    assert n_reads == 40
    assert len(volume.reads) == 42
