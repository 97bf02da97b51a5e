import numpy as np
import pytest
from array_volume import ArrayVolume

from tracer.errors import NothingFoundError
from tracer.random_seed import find_random_seed


class ChunkedVolume(ArrayVolume):
    """Counts reads; chunks without a voxel are not stored."""

    path = "array"

    def __init__(self, array, chunk=16):
        super().__init__(array)
        self.chunk = chunk
        self.n_reads = 0

    def chunk_shape_zyx(self, level):
        assert level == 0
        return (self.chunk,) * 3

    def chunk_exists(self, level, index_zyx):
        assert level == 0
        box = tuple(slice(i * self.chunk, (i + 1) * self.chunk) for i in index_zyx)
        return bool(self.array[box].any())

    def read(self, level, start_zyx, stop_zyx):
        self.n_reads += 1
        return super().read(level, start_zyx, stop_zyx)


def sheet_at(y, shape=(40, 64, 80)):
    array = np.zeros(shape, np.uint8)
    array[:, y : y + 3] = 255
    return ChunkedVolume(array)


def draw(volume, n=40, threshold=170, rng_seed=0):
    return np.array(
        [
            find_random_seed(volume, threshold, np.random.default_rng([rng_seed, i]))
            for i in range(n)
        ]
    )


def test_find_random_seed__is_a_sheet_voxel_away_from_the_border():
    volume = sheet_at(30)
    seeds = draw(volume)
    x, y, z = seeds.T
    assert ((y >= 30) & (y <= 32)).all()
    assert {30.0, 32.0} <= set(y)  # rays come from both sides and stop at the first voxel
    assert ((x >= 10) & (x < 70) & (z >= 5) & (z < 35)).all()  # an eighth of the volume is kept
    assert np.ptp(x) > 30
    assert np.ptp(z) > 15
    assert (seeds == seeds.astype(int)).all()


def test_find_random_seed__depends_on_the_generator_only():
    seeds = draw(sheet_at(30))
    np.testing.assert_array_equal(draw(sheet_at(30)), seeds)
    np.testing.assert_array_equal(draw(sheet_at(30), n=5), seeds[:5])
    assert len(np.unique(seeds, axis=0)) > 35
    assert not (draw(sheet_at(30), rng_seed=1) == seeds).all(axis=1).any()


def test_find_random_seed__the_first_sheet_on_the_ray_wins():
    volume = sheet_at(30)
    volume.array[:, 20:23] = 255
    volume.array[:, 36:40] = 169  # below the threshold
    y = draw(volume, n=80)[:, 1]
    assert set(y) == {20.0, 21.0, 22.0, 30.0, 31.0, 32.0} & set(y)
    assert {20.0, 22.0, 30.0, 32.0} <= set(y)
    assert (draw(volume, n=80, threshold=169)[:, 1] >= 36).any()


def test_find_random_seed__reads_only_around_stored_chunks():
    volume = sheet_at(4)  # in the margin, where no seed may lie; only the first chunks exist
    with pytest.raises(NothingFoundError, match=r"array: none of 1000 random rays met a voxel >="):
        draw(volume, n=1)
    assert 0 < volume.n_reads < 400
    empty = ChunkedVolume(np.zeros((40, 64, 80), np.uint8))
    with pytest.raises(NothingFoundError, match="170; is this a surface prediction"):
        draw(empty, n=1)
    assert empty.n_reads == 0


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 40), (3, 5, 200)])
def test_find_random_seed__in_thin_volumes(shape):
    volume = ChunkedVolume(np.full(shape, 255, np.uint8))
    seeds = draw(volume, n=20)
    assert ((seeds >= 0) & (seeds < shape[::-1])).all()
