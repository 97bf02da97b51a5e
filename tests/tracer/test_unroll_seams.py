import dataclasses

import numpy as np
import pytest
from unroll_cases import arc_of, collection, patch, spiral, theta_of

from tracer.surface import Surface
from tracer.unroll import Patches, UnrollParams
from tracer.unroll.evidence import Equations, Rays
from tracer.unroll.seams import find_seam, place_weights, without
from tracer.unroll.stage import solve


def links(pairs):
    i, j = np.array(pairs, np.int32).T
    zeros = np.zeros(len(i), np.int64)
    return Equations(i=i, j=j, shift=zeros, weight=np.ones(len(i)))


def rays(vertex, other, side=1):
    n = len(vertex)
    return Rays(
        vertex=np.array(vertex, np.int32),
        other=np.array(other, np.int32),
        side=np.full(n, side),
        distance=np.full(n, 12.0, np.float32),
        parallel=np.ones(n, np.float32),
    )


def strip(n):
    return [(k, k + 1) for k in range(n - 1)]


@pytest.mark.parametrize("side", [1, -1])
def test_find_seam__parts_inner_from_outer_at_the_weakest_link(side):
    doubled = [pair for pair in strip(20) if pair != (11, 12)]
    held = links(strip(20) + doubled)
    seen = rays(range(6), range(14, 20), side)
    inner = find_seam((held,), seen, np.ones(6, bool), np.ones(20))
    expected = np.arange(20) < 12
    assert inner.tolist() == (expected if side > 0 else ~expected).tolist()


def test_find_seam__places_count_once_however_many_patches_cover_them():
    # two strips lie beside one another from 0 to 9: cutting both there costs as one elsewhere
    pairs = strip(20) + [(k + 100, k + 101) for k in range(10)]
    pairs = [(a if a < 20 else a - 80, b if b < 20 else b - 80) for a, b in pairs]
    held = links(pairs + [(k, k + 20) for k in range(10)] + [(30, 10)])
    weight = place_weights(np.where((np.arange(31) < 10) | (np.arange(31) >= 20), 1, 0))
    seen = rays(range(8), range(12, 20))
    inner = find_seam((held,), seen, np.ones(8, bool), weight)
    assert inner[:8].all()
    assert not inner[12:20].any()


def test_find_seam__is_none_where_little_speaks_for_it_or_it_is_too_long():
    held = links(strip(20))
    few = rays(range(2), range(18, 20))
    assert find_seam((held,), few, np.ones(2, bool), np.ones(20)) is None
    everywhere = links([(a, b) for a in range(20) for b in range(a)])
    seen = rays(range(5), range(15, 20))
    assert find_seam((everywhere,), seen, np.ones(5, bool), np.ones(20)) is None


def test_find_seam__avoids_a_seam_that_did_not_help():
    held = links(strip(20))
    seen = rays(range(6), range(14, 20))
    first = find_seam((held,), seen, np.ones(6, bool), np.ones(20))
    second = find_seam((held,), seen, np.ones(6, bool), np.ones(20), first)
    assert second is not None
    assert first.sum() != second.sum()


def test_without__drops_what_crosses():
    kept = without(links(strip(5)), np.arange(5) < 2)
    assert list(zip(kept.i.tolist(), kept.j.tolist(), strict=True)) == [(0, 1), (2, 3), (3, 4)]


BREAK = 2 * np.pi * 3 + 1.0  # total angle at which a layer leaves its wrap
WIDE = 100.0  # voxels of arc over which it reaches the next one


def layer(theta, z, seed):
    """Return a patch that follows the layer from one wrap to the next."""
    flat = patch(theta, z, cols=24, seed=seed, name=f"layer_{seed:03d}")
    at = theta_of(flat.points_xyz)
    share = np.clip((arc_of(at) - arc_of(BREAK)) / WIDE + 0.5, 0, 1)[..., None]
    height = flat.points_xyz[..., 2]
    points = (1 - share) * flat.points_xyz + share * spiral(at + 2 * np.pi, height)
    return dataclasses.replace(flat, points_xyz=points.astype(np.float32))


def torn(surface: Surface):
    """Return a patch without what lies where the layer passes, on either wrap."""
    at = theta_of(surface.points_xyz)
    near = np.zeros(at.shape, bool)
    for wrap in (BREAK, BREAK + 2 * np.pi):
        near |= np.abs(arc_of(at) - arc_of(wrap)) < 0.5 * WIDE + 10.0
    return dataclasses.replace(surface, valid=surface.valid & ~near)


def test_solve__a_layer_that_all_patches_follow_to_the_next_wrap_is_cut():
    rng = np.random.default_rng([3])
    whole = [torn(surface) for surface in collection(200, seed=8)]
    layers = [
        layer(BREAK + rng.uniform(-0.3, 0.3), z, k) for k, z in enumerate(np.linspace(20, 140, 14))
    ]
    surfaces = [s for s in whole if s.valid.sum() >= 30] + layers
    patches = Patches.from_surfaces(surfaces)
    solved = solve(patches, UnrollParams(step=10.0))
    layout = solved.layout
    of_layer = np.array([name.startswith("layer") for name in patches.names])
    sound = (layout.component >= 0) & ~of_layer[patches.grid[:, 0]]
    wrong = 0
    for number in range(layout.n_components):
        mine = sound & (layout.component == number)
        error = np.rint(layout.winding - theta_of(patches.points_xyz) / (2 * np.pi))[mine]
        if len(error):
            wrong += int((error != np.median(error)).sum())
    assert wrong <= 5
    assert layout.cut.any()
    owners = patches.grid[patches.edges[layout.cut, 0], 0]
    assert of_layer[owners].mean() > 0.5
