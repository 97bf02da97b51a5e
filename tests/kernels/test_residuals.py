import math

import numpy as np
import pytest
from asserts import assert_jacobian
from hypothesis import assume, given
from hypothesis import strategies as st

from tracer.kernels import residuals as res

coordinate = st.floats(-30.0, 30.0, allow_subnormal=False)
point = st.tuples(coordinate, coordinate, coordinate)
weight = st.floats(0.05, 4.0)


def _norm(vector):
    return math.sqrt(float(np.dot(vector, vector)))


def _apart(*points):
    """Keep points far from the kinks of lengths, so that finite differences mean something."""
    for i, a in enumerate(points):
        for b in points[i + 1 :]:
            assume(_norm(np.subtract(a, b)) > 1.0)


def _angle_cosine(u, v):
    return float(np.dot(u, v) / (_norm(u) * _norm(v)))


# distance


@given(a=point, b=point, target=st.floats(1.0, 60.0), weight=weight)
def test_distance_residual__jacobian(a, b, target, weight):
    _apart(a, b)
    d = _norm(np.subtract(a, b))
    assume(abs(d - target) > 1e-2)
    assume(abs(d - res.MIN_DISTANCE_RATIO * target) > 1e-2)

    def evaluate(x):
        r, *g = res.distance_residual(*x, target, weight)
        return np.array([r]), np.array([[*g, *(-q for q in g)]])

    assert_jacobian(evaluate, np.array([*a, *b]), rtol=1e-5)


@given(a=point, b=point, target=st.floats(1.0, 60.0), weight=weight)
def test_distance_residual__is_the_table_formula(a, b, target, weight):
    d = _norm(np.subtract(a, b))
    assume(d > res.MIN_DISTANCE_RATIO * target)
    expected = weight * (d / target - 1.0 if d >= target else target / d - 1.0)
    assert res.distance_residual(*a, *b, target, weight)[0] == pytest.approx(expected, abs=1e-12)


def test_distance_residual__is_zero_at_rest():
    assert res.distance_residual(0.0, 3.0, 0.0, 0.0, 0.0, 4.0, 5.0, 2.0)[0] == 0.0


def test_distance_residual__coincident_points_are_finite_and_pushed_apart():
    r, gx, gy, gz = res.distance_residual(1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 20.0, 1.0)
    assert r == pytest.approx(2.0 / res.MIN_DISTANCE_RATIO - 1.0)
    assert gx < 0.0
    assert (gy, gz) == (0.0, 0.0)


def test_distance_residual__is_continuous_where_it_becomes_linear():
    edge = res.MIN_DISTANCE_RATIO * 20.0
    below = res.distance_residual(edge * (1 - 1e-9), 0.0, 0.0, 0.0, 0.0, 0.0, 20.0, 1.0)
    above = res.distance_residual(edge * (1 + 1e-9), 0.0, 0.0, 0.0, 0.0, 0.0, 20.0, 1.0)
    np.testing.assert_allclose(below, above, rtol=1e-7)


def test_distance_residual__grows_towards_coincidence():
    values = [
        res.distance_residual(d, 0.0, 0.0, 0.0, 0.0, 0.0, 20.0, 1.0)[0]
        for d in np.linspace(0.0, 20.0, 400)
    ]
    assert (np.diff(values) < 0.0).all()


# straightness


@given(a=point, b=point, c=point, weight=weight)
def test_straightness_residual__jacobian(a, b, c, weight):
    _apart(a, b)
    _apart(b, c)

    def evaluate(x):
        r, *g = res.straightness_residual(*x, weight)
        first, last = np.array(g[:3]), np.array(g[3:])
        return np.array([r]), np.concatenate([first, -first - last, last])[None]

    assert_jacobian(evaluate, np.array([*a, *b, *c]), rtol=1e-5)


@given(a=point, b=point, c=point, weight=weight)
def test_straightness_residual__is_the_table_formula(a, b, c, weight):
    _apart(a, b)
    _apart(b, c)
    expected = weight * (1.0 - _angle_cosine(np.subtract(b, a), np.subtract(c, b)))
    assert res.straightness_residual(*a, *b, *c, weight)[0] == pytest.approx(expected, abs=1e-9)


def test_straightness_residual__is_zero_on_a_line():
    values = res.straightness_residual(0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 7.0, 0.0, 0.0, 0.5)
    assert values == (0.0,) * 7


def test_straightness_residual__is_twice_the_weight_on_a_fold():
    assert res.straightness_residual(0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5)[0] == 1.0


@pytest.mark.parametrize("which", ["first", "last", "both"])
def test_straightness_residual__coincident_points_are_finite(which):
    a = (0.0, 0.0, 0.0)
    b = a if which in ("first", "both") else (5.0, 0.0, 0.0)
    c = b if which in ("last", "both") else (9.0, 2.0, 0.0)
    values = res.straightness_residual(*a, *b, *c, 0.5)
    assert values[0] == 0.5
    assert np.abs(values[1:]).max() <= 0.5 / res.MIN_LENGTH


def test_cosine_gradient__short_vectors_fade_without_a_step():
    below = res.cosine_gradient(res.MIN_LENGTH * (1 - 1e-9), 0.0, 0.0, 3.0, 4.0, 0.0)
    above = res.cosine_gradient(res.MIN_LENGTH * (1 + 1e-9), 0.0, 0.0, 3.0, 4.0, 0.0)
    assert below[0] == pytest.approx(above[0], rel=1e-7)
    assert res.cosine_gradient(0.0, 0.0, 0.0, 3.0, 4.0, 0.0)[0] == 0.0


@given(v=point)
def test_cosine_gradient__jacobian_holds_for_short_vectors(v):
    assume(_norm(v) > 1.0)

    def evaluate(x):
        cosine, *g = res.cosine_gradient(*x, *v)
        return np.array([cosine]), np.array([g[:3]])

    short = np.array([0.3, 0.1, -0.2]) * res.MIN_LENGTH
    assert_jacobian(evaluate, short, step=1e-2 * res.MIN_LENGTH)


@given(a=coordinate, b=coordinate, c=coordinate, weight=weight)
def test_linear_straightness_residual__jacobian(a, b, c, weight):
    def evaluate(x):
        r = res.linear_straightness_residual(*x, weight)
        return np.array([r]), np.array([[-0.5 * weight, weight, -0.5 * weight]])

    assert_jacobian(evaluate, np.array([a, b, c]))


def test_linear_straightness_residual__is_zero_in_the_middle():
    assert res.linear_straightness_residual(2.0, 5.0, 8.0, 3.0) == 0.0


# height, normal, directions


@given(z=coordinate, target=coordinate, weight=weight)
def test_z_residual__jacobian(z, target, weight):
    def evaluate(x):
        return np.array([res.z_residual(x[0], target, weight)]), np.array([[weight]])

    assert_jacobian(evaluate, np.array([z]))
    assert res.z_residual(target, target, weight) == 0.0


@given(a=point, b=point, n=point, weight=weight)
def test_normal_residual__jacobian_and_formula(a, b, n, weight):
    _apart(a, b)
    assume(_norm(n) > 0.5)

    def evaluate(x):
        r, *g = res.normal_residual(*x, *n, weight)
        return np.array([r]), np.array([[*g, *(-q for q in g)]])

    assert_jacobian(evaluate, np.array([*a, *b]), rtol=1e-5)
    expected = weight * _angle_cosine(np.subtract(b, a), n)
    assert res.normal_residual(*a, *b, *n, weight)[0] == pytest.approx(expected, abs=1e-9)


def test_normal_residual__is_zero_in_the_plane():
    assert res.normal_residual(0.0, 0.0, 5.0, 3.0, 1.0, 5.0, 0.0, 0.0, 2.0, 1.0)[0] == 0.0


@pytest.mark.parametrize("n", [(0.0, 0.0, 0.0), (0.0, 0.0, 1.0)])
def test_normal_residual__degenerate_input_is_finite(n):
    values = res.normal_residual(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, *n, 0.3)
    assert np.isfinite(values).all()
    assert values[0] == 0.0


@given(v=point, f=point, weight=weight)
def test_direction_residual__jacobian_and_formula(v, f, weight):
    assume(_norm(v) > 1.0)
    assume(_norm(f) > 1.0)
    assume(abs(_angle_cosine(v, f)) > 1e-2)

    def evaluate(x):
        r, *g = res.direction_residual(*x, weight)
        return np.array([r]), np.array([g])

    assert_jacobian(evaluate, np.array([*v, *f]), rtol=1e-5)
    expected = weight * (1.0 - abs(_angle_cosine(v, f)))
    assert res.direction_residual(*v, *f, weight)[0] == pytest.approx(expected, abs=1e-9)


def test_direction_residual__has_no_sign():
    forward = res.direction_residual(1.0, 2.0, 3.0, 2.0, 1.0, 0.5, 1.0)
    backward = res.direction_residual(-1.0, -2.0, -3.0, 2.0, 1.0, 0.5, 1.0)
    assert forward[0] == backward[0]
    assert res.direction_residual(0.0, 0.0, -2.0, 0.0, 0.0, 5.0, 1.0)[0] == 0.0


@pytest.mark.parametrize("zero", ["vector", "axis", "both"])
def test_direction_residual__degenerate_input_is_finite(zero):
    v = (0.0, 0.0, 0.0) if zero in ("vector", "both") else (1.0, 0.0, 0.0)
    f = (0.0, 0.0, 0.0) if zero in ("axis", "both") else (0.0, 1.0, 1.0)
    values = res.direction_residual(*v, *f, 1.0)
    assert np.isfinite(values).all()
    assert values[0] == 1.0


@given(u=point, v=point, f=point, weight=weight)
def test_normal_direction_residual__jacobian_and_formula(u, v, f, weight):
    normal = np.cross(u, v)
    assume(_norm(normal) > 5.0)
    assume(_norm(f) > 1.0)
    assume(abs(_angle_cosine(normal, f)) > 1e-2)

    def evaluate(x):
        r, *g = res.normal_direction_residual(*x, *f, weight)
        return np.array([r]), np.array([g])

    assert_jacobian(evaluate, np.array([*u, *v]), rtol=1e-4)
    expected = weight * (1.0 - abs(_angle_cosine(normal, f)))
    actual = res.normal_direction_residual(*u, *v, *f, weight)[0]
    assert actual == pytest.approx(expected, abs=1e-9)


def test_normal_direction_residual__parallel_edges_are_finite():
    values = res.normal_direction_residual(1.0, 2.0, 3.0, 2.0, 4.0, 6.0, 0.0, 0.0, 1.0, 1.0)
    assert np.isfinite(values).all()
    assert values[0] == 1.0
