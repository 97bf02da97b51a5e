"""Component sizes over block seams equal those of the whole."""

import numpy as np
import pytest
import scipy.ndimage as ndi

from tracer.predict.blocks import iterate_blocks
from tracer.predict.components import label_block, measure_components


def _sizes(mask, edge):
    def read(start, stop):
        return mask[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]

    measured = measure_components(read, mask.shape, edge)
    out = np.zeros(mask.shape, np.int64)
    for block in iterate_blocks(mask.shape, edge):
        labels, _ = label_block(read, mask.shape, block)
        z, y, x = block.shape_zyx
        box = tuple(slice(a, b) for a, b in zip(block.start_zyx, block.stop_zyx, strict=True))
        out[box] = measured.of_block(block, labels[:z, :y, :x])
    return out, measured.components


def _whole(mask):
    labels, count = ndi.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return sizes[labels], count


@pytest.mark.parametrize("density", [0.02, 0.08, 0.12, 0.3])
@pytest.mark.parametrize("edge", [3, 4, 7, 40])
def test_measure_components__equals_the_whole(density, edge):
    mask = np.random.default_rng(int(100 * density)).random((13, 18, 21)) < density
    got, expected = _sizes(mask, edge), _whole(mask)
    np.testing.assert_array_equal(got[0], expected[0])
    assert got[1] == expected[1]


def test_measure_components__corner_contacts_over_seams_join():
    mask = np.zeros((8, 8, 8), bool)
    mask[3, 3, 3] = mask[4, 4, 4] = True  # meet at the corner of eight blocks
    mask[0, 4, 3] = mask[0, 3, 4] = True  # meet at an edge of four blocks, against C order
    sizes, count = _sizes(mask, 4)
    assert count == 2
    assert (sizes[mask] == 2).all()


def test_measure_components__nothing():
    sizes, count = _sizes(np.zeros((5, 5, 5), bool), 4)
    assert count == 0
    assert not sizes.any()
