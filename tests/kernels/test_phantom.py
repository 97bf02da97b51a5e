import math

import numpy as np
import pytest
from naive import phantom as naive
from scipy import ndimage

from tracer.kernels import phantom as kernels
from tracer.kernels import phantom_noise as noise
from tracer.kernels.phantom_voxels import blur_block
from tracer.phantom.deformation import Crush, Swirl, Waves, build_spiral

PITCH = 20.0
CENTRE = (60.0, 55.0)
CRUSH = Crush(
    centre=(60.0, 50.0, 40.0), scales=(1.4, 0.7), angle=0.4, twist=0.01, lean=(0.1, -0.05)
)
SWIRL = Swirl(centre=(80.0, 60.0, 40.0), radius=40.0, half_height=50.0, angle=1.9)


def some_waves(lipschitz=0.7, count=5, rng_seed=3):
    rng = np.random.default_rng(rng_seed)
    vectors = rng.normal(0.0, 0.03, (count, 3))
    amplitudes = rng.normal(0.0, 1.0, (count, 3))
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(amplitudes, axis=1)
    amplitudes *= (lipschitz / count / lengths)[:, None]
    return Waves(
        wave_vectors=tuple(map(tuple, vectors.tolist())),
        amplitudes=tuple(map(tuple, amplitudes.tolist())),
        phases=tuple(rng.uniform(0, 6, count).tolist()),
    )


CHAINS = {
    "none": (),
    "waves": (some_waves(),),
    "crush": (CRUSH,),
    "swirl": (SWIRL,),
    "steep waves": (some_waves(0.97, 2),),
    "all": (CRUSH, some_waves(), SWIRL, some_waves(0.3, 4, 5)),
}


def some_points(n=200, rng_seed=0):
    return np.random.default_rng(rng_seed).uniform(0.0, 120.0, (n, 3))


def locate(spiral, points):
    found = np.empty((len(points), kernels.N_LOCATED))
    kernels.locate_points(spiral, points, found)
    return found


def place(spiral, points):
    placed = np.empty_like(points)
    kernels.place_points(spiral, points, placed)
    return placed


def test_sine_cosine__equals_the_library():
    phases = np.r_[np.linspace(-60, 60, 2001), 0.0, np.pi / 4, -np.pi / 2, 1500.25]
    found = np.array([kernels.sine_cosine(phase) for phase in phases])
    np.testing.assert_allclose(found[:, 0], np.sin(phases), rtol=0, atol=2e-15 * 20)
    np.testing.assert_allclose(found[:, 1], np.cos(phases), rtol=0, atol=2e-15 * 20)


@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_locate_points__undoes_place_points(chain):
    spiral = build_spiral(CENTRE, PITCH, CHAINS[chain])
    material = some_points()
    back = locate(spiral, place(spiral, material))
    np.testing.assert_allclose(back[:, :3], material, rtol=0, atol=1e-7)


def test_locate_points__equals_fixed_point_iteration():
    waves = some_waves()
    points = some_points()
    expected = naive.invert_waves(points, waves.wave_vectors, waves.amplitudes, waves.phases)
    spiral = build_spiral(CENTRE, PITCH, (waves,))
    found = locate(spiral, points)
    np.testing.assert_allclose(found[:, :3], expected, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found[:, 3], naive.winding(expected, CENTRE, PITCH), atol=1e-9)


def test_place_points__equals_the_sum_of_waves():
    waves = some_waves()
    points = some_points()
    expected = naive.place_waves(points, waves.wave_vectors, waves.amplitudes, waves.phases)
    spiral = build_spiral(CENTRE, PITCH, (waves,))
    np.testing.assert_allclose(place(spiral, points), expected, rtol=0, atol=1e-11)


def test_place_points__without_stages_is_the_identity():
    points = some_points()
    assert (place(build_spiral(CENTRE, PITCH, ()), points) == points).all()


@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_locate_points__gradient_equals_finite_differences(chain):
    spiral = build_spiral(CENTRE, PITCH, CHAINS[chain])
    points = place(spiral, some_points())
    found = locate(spiral, points)
    h = 1e-4
    numeric = np.empty((len(points), 3))
    for axis in range(3):
        step = np.zeros(3)
        step[axis] = h
        change = locate(spiral, points + step)[:, 3] - locate(spiral, points - step)[:, 3]
        numeric[:, axis] = (change + 0.5) % 1.0 - 0.5  # across the seam the winding falls by one
    away = np.hypot(found[:, 0] - CENTRE[0], found[:, 1] - CENTRE[1]) > 2.0
    assert away.sum() > 150
    np.testing.assert_allclose(found[away, 5:8], numeric[away] / (2 * h), rtol=1e-4, atol=1e-7)


def test_locate_points__of_a_plain_spiral_is_analytic():
    theta = np.linspace(7.0, 40.0, 300)
    r = PITCH * theta / (2 * np.pi)
    points = np.stack(
        [CENTRE[0] + r * np.cos(theta), CENTRE[1] + r * np.sin(theta), np.full(300, 5.0)], axis=1
    )
    found = locate(build_spiral(CENTRE, PITCH, ()), points)
    np.testing.assert_allclose(found[:, 3], np.floor(theta / (2 * np.pi)), atol=1e-9)
    np.testing.assert_allclose(found[:, 4], np.mod(theta, 2 * np.pi), atol=1e-9)


def test_locate_points__of_places_that_are_not_finite_is_nan():
    points = some_points(4)
    points[1, 2] = np.nan
    points[2, 0] = np.inf
    found = locate(build_spiral(CENTRE, PITCH, (some_waves(),)), points)
    assert np.isnan(found[1:3]).all()
    assert np.isfinite(found[[0, 3]]).all()


def test_locate_points__reads_read_only_and_strided_points():
    spiral = build_spiral(CENTRE, PITCH, CHAINS["all"])
    points = some_points(40)
    view = points[::2]
    view.flags.writeable = False
    assert (locate(spiral, view) == locate(spiral, points)[::2]).all()


def test_uniform__is_uniform_and_reaches_all_indices():
    values = np.array([noise.uniform(7, i, j, -i) for i in range(-40, 40) for j in range(40)])
    assert ((values >= 0) & (values < 1)).all()
    assert len(np.unique(values)) == len(values)
    counts = np.histogram(values, 10, (0, 1))[0]
    assert abs(counts - 320).max() < 90


def test_grain__has_mean_zero_and_deviation_one():
    values = np.array([noise.grain(1, i, j, 3) for i in range(60) for j in range(60)])
    assert abs(values.mean()) < 0.06
    assert abs(values.std() - 1.0) < 0.03


def test_noise_3d__is_continuous_and_hits_its_nodes():
    assert noise.noise_2d(5, 3.0, -2.0) == noise.uniform(5, 3, -2, 0)
    low, high = noise.noise_3d(5, 1.999999, 0.5, 0.25), noise.noise_3d(5, 2.000001, 0.5, 0.25)
    assert low == pytest.approx(high, abs=1e-4)
    low, high = noise.noise_3d(5, 0.3, 0.5, 0.999999), noise.noise_3d(5, 0.3, 0.5, 1.000001)
    assert low == pytest.approx(high, abs=1e-4)


def test_find_event__lies_inside_its_cell():
    # On every border of the cells there is no event, so that a cell needs no neighbours.
    inside = 0
    for i in range(-5, 5):
        for t in np.linspace(0.0, 0.999, 30):
            assert noise.find_event(3, 20.0, 10.0, 1.0, 20.0 * i, 10.0 * t)[0] >= 1.0 - 1e-12
            assert noise.find_event(3, 20.0, 10.0, 1.0, 20.0 * t, 10.0 * i)[0] >= 1.0 - 1e-12
            inside += noise.find_event(3, 20.0, 10.0, 1.0, 20.0 * (i + t), 10.0 * i + 5.0)[0] < 1.0
    assert inside > 30


def test_find_event__happens_in_the_share_of_cells_asked_for():
    hits = [
        noise.find_event(3, 1.0, 1.0, 0.3, i + 0.5, j + 0.5)[0] < noise.NO_EVENT
        for i in range(40)
        for j in range(40)
    ]
    assert 0.26 < np.mean(hits) < 0.34
    assert noise.find_event(3, 1.0, 1.0, 0.0, 0.5, 0.5)[0] == noise.NO_EVENT


def test_blur_block__equals_scipy():
    ct = np.random.default_rng(0).uniform(-50, 320, (8, 9, 10)).astype(np.float32)
    expected = ct.astype(float)
    for axis in range(3):
        expected = ndimage.convolve1d(expected, [0.25, 0.5, 0.25], axis=axis)
    out = np.empty((6, 7, 8), np.uint8)
    blur_block(ct.copy(), 0.25, np.empty_like(ct), out)
    clipped = np.clip(expected[1:-1, 1:-1, 1:-1], 0, 255)
    assert np.abs(out - clipped).max() <= 0.5 + 1e-3


def test_smooth_step__is_flat_beyond_its_ends():
    assert [noise.smooth_step(t) for t in (-1.0, 0.0, 0.5, 1.0, 3.0)] == [0, 0, 0.5, 1, 1]
    assert math.isclose(noise.smooth_step(0.25) + noise.smooth_step(0.75), 1.0)
