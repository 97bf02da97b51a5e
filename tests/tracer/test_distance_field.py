"""Distance fields: exact, seamless, bounded in memory and the same however they are loaded."""

import numpy as np
import pytest
from field_volume import FieldVolume
from naive import distance_transform as naive
from scipy.ndimage import gaussian_filter, map_coordinates

from tracer.distance_field import LARGEST_CAP, DistanceField
from tracer.errors import ParamsError, VolumeError
from tracer.field_pool import SLOT_BYTES
from tracer.kernels.field_sampling import CHUNK, FAR, NOT_LOADED
from tracer.volume import Volume

SHAPE = (140, 37, 262)


def blobs(shape=SHAPE, fraction=0.12, seed=0):
    """Return a random prediction with thick and thin parts, speckles and flat faces."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=shape), 2.5)
    mask = smooth > np.quantile(smooth, 1 - fraction)
    mask |= rng.random(shape) < 0.001
    values = rng.integers(0, 170, shape).astype(np.uint8)
    values[mask] = rng.integers(170, 256, np.count_nonzero(mask))
    return values


def whole(field):
    """Return the codes of all voxels, chunk by chunk, after loading everything."""
    out = np.zeros(field.shape_zyx, np.uint8)
    chunks = np.argwhere(np.ones(field.grid_zyx, bool))
    field.ensure(chunks)
    view = field.view()
    for index in map(tuple, chunks):
        box = tuple(slice(i * CHUNK, (i + 1) * CHUNK) for i in index)
        part = out[box]
        slot = view.table[index]
        assert slot != NOT_LOADED
        if slot == FAR:
            part[:] = 64 + 8 * field.cap
        else:
            part[:] = view.pool[slot][tuple(slice(n) for n in part.shape)]
    return out


@pytest.fixture(scope="module")
def values():
    return blobs()


@pytest.mark.parametrize(
    "cap",
    [1, 3.625, 4, 8, *(pytest.param(cap, marks=pytest.mark.slow) for cap in (12, LARGEST_CAP))],
)
def test_field__equals_the_exact_transform_across_seams(values, cap):
    got = whole(DistanceField(FieldVolume(values), cap=cap))
    np.testing.assert_array_equal(got, naive.codes(values >= 170, cap))


@pytest.mark.parametrize("shape", [(1, 1, 1), (129, 2, 3), (128, 128, 5), (7, 257, 9)])
def test_field__equals_the_exact_transform_for_odd_shapes(shape):
    values = blobs(shape, 0.3, seed=2)
    got = whole(DistanceField(FieldVolume(values)))
    np.testing.assert_array_equal(got, naive.codes(values >= 170, 8))


@pytest.mark.parametrize("threshold", [1, 100, 255])
def test_field__takes_its_foreground_from_the_threshold_on(threshold):
    values = np.random.default_rng(0).integers(0, 256, (20, 9, 11)).astype(np.uint8)
    got = whole(DistanceField(FieldVolume(values), threshold))
    np.testing.assert_array_equal(got, naive.codes(values >= threshold, 8))


def test_field__of_a_sheet_that_leaves_the_volume_keeps_its_thickness():
    values = np.zeros((40, 40, 40), np.uint8)
    values[18:23] = 255
    profile = (whole(DistanceField(FieldVolume(values)))[:, 0, 0].astype(float) - 64) / 8
    np.testing.assert_allclose(profile[15:24], [2.5, 1.5, 0.5, -0.5, -1.5, -2.5, -1.5, -0.5, 0.5])


def test_field__stores_one_voxel_of_the_next_chunk_and_repeats_the_last_one_of_the_volume(values):
    field = DistanceField(FieldVolume(values))
    codes = whole(field)
    view = field.view()
    for index in np.ndindex(*field.grid_zyx):
        where = [
            np.minimum(np.arange(i * CHUNK, (i + 1) * CHUNK + 1), n - 1)
            for i, n in zip(index, values.shape, strict=True)
        ]
        np.testing.assert_array_equal(view.pool[view.table[index]], codes[np.ix_(*where)])


def test_field__of_an_empty_volume_reads_and_stores_nothing():
    volume = FieldVolume(np.zeros((300, 20, 20), np.uint8))
    field = DistanceField(volume)
    field.ensure(volume.chunk_indices())
    assert (field.view().table == FAR).all()
    assert len(field.view().pool) == 0
    assert volume.reads == []
    assert field.sample([[3.0, 4.0, 250.0]]) == 8.0
    assert field.stats.chunks_far == 3


def test_field__is_far_where_only_the_border_or_faint_voxels_hold_something():
    values = np.zeros((20, 20, 400), np.uint8)
    values[10, 10, 127 - 8] = 255  # 9 voxels before chunk 1
    values[10, 10, 300] = 169
    field = DistanceField(FieldVolume(values))
    field.ensure([(0, 0, k) for k in range(4)])
    assert field.view().table[0, 0].tolist() == [0, FAR, FAR, FAR]
    np.testing.assert_array_equal(whole(field), naive.codes(values >= 170, 8))


def test_field__of_a_solid_volume_is_deep_everywhere():
    assert (whole(DistanceField(FieldVolume(np.full((40, 30, 20), 255)))) == 1).all()


def test_field__is_the_same_in_any_order_and_memory(values):
    volume = FieldVolume(values)
    forward, backward = DistanceField(volume), DistanceField(volume, cache_size_bytes=1)
    for index in volume.chunk_indices()[::-1]:
        backward.ensure([index])
        assert len(backward.view().pool) == 1
    np.testing.assert_array_equal(whole(forward), whole(backward))


@pytest.mark.parametrize(("stored", "n_reads"), [(256, 2), (128, 6), (96, 6), (1024, 6)])
def test_field__reads_every_part_of_the_volume_once(values, stored, n_reads):
    volume = FieldVolume(values, chunk=stored)
    got = whole(DistanceField(volume))
    np.testing.assert_array_equal(got, naive.codes(values >= 170, 8))
    assert len(volume.reads) == n_reads


def test_field__reads_only_stored_objects():
    values = np.zeros((16, 16, 1000), np.uint8)
    values[4, 4, 600] = 255
    volume = FieldVolume(values, chunk=64)
    got = whole(DistanceField(volume))
    np.testing.assert_array_equal(got, naive.codes(values >= 170, 8))
    assert [start[2] for start, _ in volume.reads] == [512]


def test_field__of_a_real_volume_agrees_with_the_whole(shared_data):
    volume = Volume.open(shared_data / "vc3d" / "volume" / "pred.zarr")
    field = DistanceField(volume)
    start, stop = (100, 120, 230), (160, 140, 270)
    mask = volume.read(0, [a - 8 for a in start], [b + 8 for b in stop]) >= 170
    points = np.stack(
        np.meshgrid(*(np.arange(a, b) for a, b in zip(start, stop, strict=True)), indexing="ij"), -1
    )
    got = field.sample(points[..., ::-1])
    inner = (slice(8, -8),) * 3
    np.testing.assert_array_equal(got * 8 + 64, naive.codes(mask, 8)[inner])
    assert field.stats.chunks_computed == 8


def test_field__refuses_a_volume_that_is_no_prediction(shared_data, tmp_path):
    import zarr

    zarr.create_array(str(tmp_path / "ct"), shape=(8, 8, 8), dtype="uint16", zarr_format=2)
    with pytest.raises(VolumeError, match="uint16"):
        DistanceField(Volume.open(tmp_path / "ct", require_meta=False))


@pytest.mark.parametrize(
    "bad",
    [
        {"threshold": 0},
        {"threshold": 256},
        {"cap": 0},
        {"cap": 24},
        {"cap": np.nan},
        {"cache_limit_gb": 0},
        {"cache_size_bytes": 0},
    ],
)
def test_field__names_a_bad_parameter(bad):
    with pytest.raises(ParamsError, match=f"^{next(iter(bad))} = "):
        DistanceField(FieldVolume(np.zeros((4, 4, 4))), **bad)


def test_ensure__ignores_chunks_outside_and_accepts_nothing(values):
    field = DistanceField(FieldVolume(values))
    field.ensure([])
    field.ensure(np.zeros((0, 3), np.int64))
    field.ensure([(-1, 0, 0), (0, 1, 0), (2, 0, 0), (0, 0, 3)])
    assert (field.view().table == NOT_LOADED).all()


def test_ensure__evicts_what_was_not_used_for_longest_and_nothing_wanted(values):
    field = DistanceField(FieldVolume(values), cache_size_bytes=3 * SLOT_BYTES)
    for index in [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 0), (1, 0, 0)]:
        field.ensure([index])
    loaded = field.view().table >= 0
    assert loaded.tolist() == [[[True, False, True]], [[True, False, False]]]
    field.ensure([(0, 0, 1), (0, 0, 2), (1, 0, 1)])
    assert (field.view().table >= 0).tolist() == [[[False, True, True]], [[False, True, False]]]
    assert len(field.view().pool) == 3
    assert field.stats.chunks_evicted == 3


def test_ensure__exceeds_the_memory_only_for_what_is_wanted_at_once(values):
    field = DistanceField(FieldVolume(values), cache_size_bytes=2 * SLOT_BYTES)
    field.ensure([(0, 0, 0), (0, 0, 1), (0, 0, 2), (1, 0, 1)])
    assert (field.view().table >= 0).sum() == 4
    assert len(field.view().pool) == 4


def test_view__from_before_a_growth_stays_consistent(values):
    field = DistanceField(FieldVolume(values), cache_size_bytes=2 * SLOT_BYTES)
    field.ensure([(0, 0, 0)])
    before = field.view()
    field.ensure(FieldVolume(values).chunk_indices())
    assert before.table.max() < len(before.pool)
    slots = [view.table[0, 0, 0] for view in (before, field.view())]
    np.testing.assert_array_equal(before.pool[slots[0]], field.view().pool[slots[1]])


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        ((0, 0, 0), (127.4, 5, 5), [(0, 0, 0)]),
        ((0, 0, 0), (127.5, 5, 5), [(0, 0, 0), (0, 0, 1)]),
        ((130, -50, 120), (140, 900, 128), [(0, 0, 1), (1, 0, 1)]),
        ((-9, -9, -9), (-5, -5, -5), []),
        ((-9, -9, -9), (0, 0, 0), [(0, 0, 0)]),
        ((255, 0, 0), (999, 999, 999), [(0, 0, 1), (0, 0, 2), (1, 0, 1), (1, 0, 2)]),
    ],
)
def test_ensure_box__loads_every_chunk_that_a_sample_in_it_needs(values, lower, upper, expected):
    field = DistanceField(FieldVolume(values))
    field.ensure_box(lower, upper)
    assert list(map(tuple, np.argwhere(field.view().table >= 0))) == expected


def _points(n=4000):
    rng = np.random.default_rng(7)
    return rng.uniform(-3, np.array(SHAPE[::-1]) + 2, (n, 3))


def test_sample__interpolates_the_exact_field(values):
    points = _points()
    inside = ((points >= 0) & (points <= np.array(SHAPE[::-1]) - 1)).all(axis=1)
    assert 2000 < inside.sum() < 4000
    exact = (naive.codes(values >= 170, 8).astype(float) - 64) / 8
    expected = np.where(inside, map_coordinates(exact, points.T[::-1], order=1), 8.0)
    got = DistanceField(FieldVolume(values)).sample(points)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_sample__in_bounded_memory_equals_sampling_at_once(values):
    points = _points()
    volume = FieldVolume(values)
    small = DistanceField(volume, cache_size_bytes=2 * SLOT_BYTES)
    distances, gradients = DistanceField(volume).sample(points, gradient=True)
    in_groups = small.sample(points, gradient=True)
    np.testing.assert_array_equal(in_groups[0], distances)
    np.testing.assert_array_equal(in_groups[1], gradients)
    assert len(small.view().pool) == 2
    assert np.abs(gradients).max() > 0.5


def test_sample__keeps_the_shape_and_caps_what_is_not_finite(values):
    field = DistanceField(FieldVolume(values))
    points = np.full((2, 3, 3), 5.0, np.float32)
    points[0, 1] = np.nan
    points[1, 2, 0] = -np.inf
    distances, gradients = field.sample(points, gradient=True)
    assert distances.shape == (2, 3)
    assert gradients.shape == (2, 3, 3)
    assert distances[0, 1] == distances[1, 2] == 8.0
    assert (gradients[0, 1] == 0).all()
    assert field.sample(np.zeros((0, 3))).shape == (0,)
    with pytest.raises(ParamsError, match="last axis must be x, y, z"):
        field.sample(np.zeros((3, 2)))


def test_sample__of_the_last_voxel_has_no_slope_out_of_the_volume():
    values = np.zeros((12, 12, 12), np.uint8)
    values[5:7] = 255
    _, gradient = DistanceField(FieldVolume(values)).sample([[11.0, 11.0, 11.0]], gradient=True)
    np.testing.assert_array_equal(gradient, np.zeros((1, 3)))
