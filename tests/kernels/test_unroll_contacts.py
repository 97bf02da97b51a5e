import numpy as np
import pytest
from naive.unroll import bilinear, nearest_on_quad
from unroll_cases import collection, patch

from tracer.kernels.unroll_contacts import find_contacts, project_on_quad
from tracer.unroll.overlaps import QuadCells, overlap_pairs
from tracer.unroll.patches import Patches


def quad(seed):
    rng = np.random.default_rng(seed)
    flat = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0], [10, 10, 0]], float)
    return (flat + rng.normal(0, 1.5, (4, 3))).astype(np.float32)


@pytest.mark.parametrize("seed", range(8))
def test_project_on_quad__equals_least_squares(seed):
    corners = quad(seed)
    rng = np.random.default_rng([seed, 1])
    point = bilinear(corners.astype(float), *rng.uniform(0, 1, 2)) + rng.normal(0, 1, 3)
    s, t, distance = project_on_quad(corners, 0, 1, 2, 3, *point)
    expected = nearest_on_quad(corners.astype(float), point)
    assert (s, t, distance) == pytest.approx(expected, abs=1e-5)


def test_project_on_quad__point_on_the_quad_is_at_distance_zero():
    corners = quad(3)
    point = bilinear(corners.astype(float), 0.25, 0.75)
    assert project_on_quad(corners, 0, 1, 2, 3, *point) == pytest.approx(
        (0.25, 0.75, 0.0), abs=1e-6
    )


def test_project_on_quad__degenerate_quad_gives_nan():
    corners = np.zeros((4, 3), np.float32)
    assert np.isnan(project_on_quad(corners, 0, 1, 2, 3, 1.0, 1.0, 1.0)).all()


def brute_force(patches, reach):
    """Return {(vertex, patch)} of all touches, quad by quad."""
    found = {}
    for vertex, point in enumerate(patches.points_xyz):
        for corners in patches.quads:
            owner = patches.grid[corners[0], 0]
            if owner == patches.grid[vertex, 0]:
                continue
            space = patches.points_xyz[corners]
            if (np.abs(space.mean(axis=0) - point) > 20).any():
                continue
            s, t, distance = project_on_quad(space, 0, 1, 2, 3, *map(float, point))
            inside = -1e-6 <= s <= 1 + 1e-6 and -1e-6 <= t <= 1 + 1e-6
            if inside and distance <= reach:
                key = (vertex, int(owner))
                found[key] = min(found.get(key, np.inf), distance)
    return found


@pytest.mark.jit_only
def test_overlap_pairs__equals_brute_force():
    patches = Patches.from_surfaces(collection(8, seed=5, theta=(13.0, 17.0), z=(60.0, 100.0)))
    expected = brute_force(patches, 2.0)
    contacts = overlap_pairs(patches, QuadCells.build(patches, 2.0), 2.0)
    owner = patches.grid[contacts.corners(patches)[:, 0], 0]
    keys = list(zip(contacts.vertex.tolist(), owner.tolist(), strict=True))
    assert len(expected) > 200
    assert set(keys) == set(expected)
    assert contacts.distance == pytest.approx([expected[key] for key in keys], abs=1e-5)
    assert keys == sorted(keys)


def test_overlap_pairs__foot_points_lie_within_reach():
    patches = Patches.from_surfaces([patch(14.0, 80.0, seed=1), patch(14.3, 84.0, seed=2)])
    contacts = overlap_pairs(patches, QuadCells.build(patches, 2.0), 2.0)
    weights = contacts.corner_weights()
    feet = np.einsum("kc,kcd->kd", weights, patches.points_xyz[contacts.corners(patches)])
    gaps = np.linalg.norm(feet - patches.points_xyz[contacts.vertex], axis=1)
    assert len(contacts) > 50
    assert weights.sum(axis=1) == pytest.approx(1.0, abs=1e-6)
    assert gaps == pytest.approx(contacts.distance, abs=1e-4)


def test_overlap_pairs__wraps_do_not_touch():
    here, next_wrap = patch(14.0, 80.0, seed=1), patch(14.0 + 2 * np.pi, 80.0, seed=2)
    patches = Patches.from_surfaces([here, next_wrap])
    assert len(overlap_pairs(patches, QuadCells.build(patches, 2.0), 2.0)) == 0


def test_find_contacts__counts_what_does_not_fit():
    patches = Patches.from_surfaces([patch(14.0, 80.0, seed=1), patch(14.1, 80.0, seed=2)])
    cells = QuadCells.build(patches, 2.0)
    keys, vertices = cells.sorted_vertices(patches.points_xyz)
    index, location = np.empty((3, 2), np.int32), np.empty((3, 3), np.float32)
    n = find_contacts(
        patches.points_xyz,
        patches.grid,
        patches.quads,
        keys,
        vertices,
        cells.keys,
        cells.quads,
        2.0,
        99,
        index,
        location,
    )
    assert n > 3
    assert (index >= 0).all()
