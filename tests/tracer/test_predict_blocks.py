"""Blocks, halos and the journal."""

import json

import numpy as np
import pytest
from array_volume import ArrayVolume

from tracer.predict.blocks import Journal, iterate_blocks, read_with_halo, work_identity


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


def test_journal__is_continued_by_the_same_work_only(tmp_path):
    path = tmp_path / "journal"
    blocks = list(iterate_blocks((8, 8, 8), 4))
    journal = Journal(path, "a")
    journal.record(blocks[0], {"sheet": 3})
    journal.record(blocks[5], {"sheet": 4})
    again = Journal(path, "a")
    assert sorted(again.done) == [0, 5]
    assert again.total("sheet") == 7
    assert Journal(path, "b").done == {}
    assert Journal(path, "b").done == {}


@pytest.mark.parametrize("kept", range(1, 40, 3))
def test_journal__survives_a_cut_line(tmp_path, kept):
    path = tmp_path / "journal"
    blocks = list(iterate_blocks((8, 8, 8), 4))
    Journal(path, "a").record(blocks[0], {})
    whole = path.read_text()
    Journal(path, "a").record(blocks[1], {})
    path.write_text(path.read_text()[: len(whole) + kept])
    journal = Journal(path, "a")
    assert 0 in journal.done
    journal.record(blocks[2], {})
    assert {0, 2} <= set(Journal(path, "a").done)


def test_work_identity__depends_on_every_fact():
    one = work_identity(params={"a": 1}, volume="x")
    assert one == work_identity(volume="x", params={"a": 1})
    assert one != work_identity(params={"a": 2}, volume="x")
    json.dumps(one)
