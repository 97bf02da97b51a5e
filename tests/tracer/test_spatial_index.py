import numpy as np
import pytest
from naive import spatial_index as naive
from strategies import wavy_surface

from tracer.errors import CollectionError
from tracer.index_segment import PatchGrid, build_segment, quad_samples
from tracer.spatial_index import SpatialIndex
from tracer.surface import Surface


def crumpled_patches(seed, n=6, step=20.0, noise=1.5):
    """Overlapping, rotated, holed and crumpled patches in a small space."""
    rng = np.random.default_rng(seed)
    patches = {}
    for k in range(n):
        surface = wavy_surface(4, 5, step=step, origin=(0, 0, 0), holes=k % 3, seed=seed + k)
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] if k % 2 else np.eye(3)
        points = surface.points_xyz @ turn + 400 + rng.uniform(-15, 15, 3)
        points += rng.normal(0, noise, points.shape)
        patches[f"p{rng.integers(1000):03d}_{k}"] = Surface(
            points_xyz=points, valid=surface.valid, scale=surface.scale
        )
    return patches


def grids_of(patches):
    return {name: PatchGrid.of_surface(name, s).points_xyz for name, s in patches.items()}


def assert_same_hits(a, b):
    for field in ("offsets", "patch_index", "rows", "cols", "distances"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))


def query_points(patches, n, seed):
    rng = np.random.default_rng(seed)
    own = np.concatenate([s.points_xyz[s.valid] for s in patches.values()]).astype(float)
    near = own[rng.integers(len(own), size=n - n // 4)] + rng.normal(0, 1, (n - n // 4, 3))
    return np.concatenate([near, rng.uniform(own.min(0), own.max(0), (n // 4, 3))])


@pytest.mark.parametrize(
    ("seed", "step", "noise", "tolerance"),
    [
        (0, 20, 1.5, 2.0),
        (1, 20, 6.0, 2.0),
        (2, 5, 0.5, 2.0),
        (3, 90, 5.0, 20.0),
        (4, 20, 1.5, 45.0),
    ],
)
def test_query__equals_brute_force(seed, step, noise, tolerance):
    patches = crumpled_patches(seed, step=step, noise=noise)
    index = SpatialIndex.from_surfaces(patches)
    points = query_points(patches, 40, seed)
    hits = index.query(points, tolerance)
    n_hits = 0
    for i, point in enumerate(points):
        expected = naive.near(grids_of(patches), point, tolerance)
        span = slice(hits.offsets[i], hits.offsets[i + 1])
        assert [index.names[k] for k in hits.patch_index[span]] == sorted(expected)
        for name, distance, row, col in zip(
            sorted(expected), hits.distances[span], hits.rows[span], hits.cols[span], strict=True
        ):
            assert distance == pytest.approx(expected[name][0], abs=1e-6)
            on_patch, valid = patches[name].sample(row, col)
            assert valid
            assert np.linalg.norm(on_patch - point) == pytest.approx(distance, abs=1e-4)
            n_hits += 1
    assert n_hits > 25
    np.testing.assert_array_equal(hits.point_index, np.repeat(range(40), np.diff(hits.offsets)))


def test_query__does_not_depend_on_segments_or_order():
    patches = crumpled_patches(7, n=9)
    whole = SpatialIndex.from_surfaces(patches)
    points = query_points(patches, 400, 1)
    expected = whole.query(points)
    assert len(expected) > 250
    grids = [PatchGrid.of_surface(*item) for item in patches.items()]
    split = SpatialIndex(
        [build_segment(grids[5:]), build_segment(grids[:2]), build_segment(grids[2:5])]
    )
    assert split.names == whole.names == tuple(sorted(patches))
    assert_same_hits(split.query(points), expected)
    grown = SpatialIndex([])
    for name, surface in patches.items():
        grown = grown.adding(name, surface)
    assert len(grown.segments) <= 4
    assert_same_hits(grown.query(points), expected)
    order = np.random.default_rng(2).permutation(len(points))
    shuffled = whole.query(points[order])
    for i, j in enumerate(order):
        a = slice(shuffled.offsets[i], shuffled.offsets[i + 1])
        b = slice(expected.offsets[j], expected.offsets[j + 1])
        np.testing.assert_array_equal(shuffled.patch_index[a], expected.patch_index[b])
        np.testing.assert_array_equal(shuffled.distances[a], expected.distances[b])


def test_query__of_many_scattered_points_keeps_their_order(monkeypatch):
    patches = {
        f"p{k}": wavy_surface(5, 5, origin=(600.0 * (k % 3), 50, 10 + 700 * (k // 3)), seed=k)
        for k in range(9)
    }
    index = SpatialIndex.from_surfaces(patches)
    points = query_points(patches, 5000, 3)
    points[17] = np.nan
    scattered = index.query(points)
    monkeypatch.setattr("tracer.spatial_index._SORT_FROM_POINTS", 10**9)
    assert_same_hits(scattered, index.query(points))
    assert len(scattered) > 1000


def test_query__leaves_out_patches_that_are_not_alive():
    patches = crumpled_patches(8)
    grids = [PatchGrid.of_surface(*item) for item in patches.items()]
    alive = np.array([True, False, True, True, False, True])
    index = SpatialIndex([build_segment(grids)], [alive])
    kept = {name: s for (name, s), lives in zip(patches.items(), alive, strict=True) if lives}
    points = query_points(patches, 100, 4)
    assert_same_hits(index.query(points), SpatialIndex.from_surfaces(kept).query(points))
    assert len(index) == 4
    assert next(iter(kept)) in index
    with pytest.raises(CollectionError, match="no patch 'none'"):
        index.number("none")


def test_adding__replaces_a_patch_of_the_same_name_and_leaves_the_index_alone():
    patches = crumpled_patches(9, n=3)
    index = SpatialIndex.from_surfaces(patches)
    name = index.names[1]
    points = query_points(patches, 60, 5)
    before = index.query(points)
    moved = Surface(
        points_xyz=patches[name].points_xyz + 3, valid=patches[name].valid, scale=(0.05, 0.05)
    )
    after = index.adding(name, moved)
    assert_same_hits(index.query(points), before)
    expected = SpatialIndex.from_surfaces({**patches, name: moved})
    assert_same_hits(after.query(points), expected.query(points))


def test_query__of_nothing_finds_nothing():
    for index in (SpatialIndex([]), SpatialIndex.from_surfaces(crumpled_patches(1))):
        for points in (np.empty((0, 3)), [[9e5, 0, 0]], [[np.nan, 0, 0]]):
            hits = index.query(points)
            assert len(hits) == 0
            assert len(hits.offsets) == len(points) + 1
    row = Surface(points_xyz=np.full((1, 4, 3), 5.0), valid=np.ones((1, 4), bool))
    hollow = Surface(points_xyz=np.full((3, 3, 3), 5.0), valid=np.eye(3, dtype=bool))
    index = SpatialIndex.from_surfaces({"row": row, "hollow": hollow})
    assert index.patches_near([[5, 5, 5]]) == []
    assert index.overlapping(row) == []


@pytest.mark.parametrize("tolerance", [-1.0, np.nan, np.inf])
def test_query__refuses_a_useless_tolerance(tolerance):
    with pytest.raises(CollectionError, match="tolerance is"):
        SpatialIndex([]).query([[0, 0, 0]], tolerance)


def test_index__refuses_a_name_twice():
    segment = build_segment([PatchGrid.of_surface("a", wavy_surface())])
    with pytest.raises(CollectionError, match="twice"):
        SpatialIndex([segment, segment])


def test_quad_samples__equal_the_oracle():
    for name, grid in grids_of(crumpled_patches(3)).items():
        samples = quad_samples(grid)
        expected = naive.samples(grid)
        assert len(samples) == len(expected), name
        np.testing.assert_allclose(np.array(sorted(map(tuple, samples))), expected, atol=1e-9)


@pytest.mark.slow
def test_overlapping__equals_brute_force_and_is_symmetric():
    rng = np.random.default_rng(11)
    patches = {}
    for k in range(10):
        surface = wavy_surface(3, 4, origin=(0, 0, 0), seed=k)
        points = surface.points_xyz + 300 + rng.uniform(-1, 1, 3) * (55, 5, 40)
        patches[f"p{k}"] = Surface(points_xyz=points, valid=surface.valid)
    index, grids = SpatialIndex.from_surfaces(patches), grids_of(patches)
    graph = {n: index.overlapping(s, exclude=[n]) for n, s in patches.items()}
    n_pairs = 0
    for a in patches:
        expected = [b for b in patches if b != a and naive.overlap(grids[a], grids[b], 2.0)]
        assert graph[a] == expected
        n_pairs += len(expected)
        assert all(a in graph[b] for b in graph[a])
    assert 10 < n_pairs < 80


def test_overlapping__notices_a_corner_that_touches_between_samples():
    """The corner of one patch pokes the other where neither corner nor centre of that is near."""
    big = Surface(
        points_xyz=np.array([[[0, 50, 10], [20, 50, 10]], [[0, 50, 30], [20, 50, 30]]], float),
        valid=np.ones((2, 2), bool),
    )
    poke = np.array([[[5, 51.5, 20], [5, 70, 20]], [[5, 70, 40], [5, 90, 40]]], float)
    small = Surface(points_xyz=poke, valid=np.ones((2, 2), bool))
    index = SpatialIndex.from_surfaces({"big": big, "small": small})
    assert index.patches_near(quad_samples(PatchGrid.of_surface("", big).points_xyz)) == ["big"]
    assert index.overlapping(big) == ["big", "small"]
    assert index.overlapping(small) == ["big", "small"]
    assert index.overlapping(big, 1.4, exclude=["big"]) == []
