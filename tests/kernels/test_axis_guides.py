import numpy as np
import pytest
from asserts import assert_jacobian

from tracer.kernels.axis_guides import HORIZONTAL, NORMAL, VERTICAL, AxisGuides, guide_terms
from tracer.kernels.field_sampling import FieldView
from tracer.kernels.placement import ON_SHEET, PlacementWeights, vertex_system
from tracer.kernels.residuals import direction_residual

KINDS = (HORIZONTAL, VERTICAL, NORMAL)
FAR = FieldView(
    np.zeros((1, 2, 2, 2), np.uint8),
    np.full((1, 1, 1), -2, np.int32),
    np.array([99, 99, 99], np.int64),
    8.0,
)


def rough_grid(seed=4, size=9, step=10.0):
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[0:size, 0:size]
    points = np.stack([step * cols, step * rows, np.full(rows.shape, 40.0)], -1)
    points = points + rng.normal(size=points.shape)
    axes = rng.normal(size=(size, size, 3, 3)).astype(np.float32)
    guides = AxisGuides(axes, np.array(KINDS), np.array([0.7, 1.3, 0.9]))
    return points, np.full((size, size), ON_SHEET, np.uint8), guides


def naive_residuals(points, state, guides, number, kind):
    """Return all residuals of a guide in row order."""
    found = []
    rows, cols = state.shape
    for r in range(rows):
        for c in range(cols):
            corners = {
                HORIZONTAL: [(r, c), (r, c + 1)],
                VERTICAL: [(r, c), (r + 1, c)],
                NORMAL: [(r, c), (r, c + 1), (r + 1, c)],
            }[kind]
            if any(i >= rows or j >= cols or state[i, j] == 0 for i, j in corners):
                continue
            known = [guides.axes[at][number] for at in corners if guides.axes[at][number].any()]
            if not known:
                continue
            edges = [points[at] - points[corners[0]] for at in corners[1:]]
            vector = np.cross(*edges) if kind == NORMAL else edges[0]
            axis = known[0].astype(float)
            cos = vector @ axis / np.linalg.norm(vector) / np.linalg.norm(axis)
            found.append(guides.weights[number] * (1.0 - abs(cos)))
    return np.array(found)


def terms_at(points, state, guides, number, row, col):
    return [
        guide_terms(points, state, row, col, *points[row, col], guides, number, member)
        for member in range(3)
    ]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("holes", [False, True])
def test_guide_terms__are_the_residuals_that_contain_the_vertex(number, holes):
    points, state, guides = rough_grid()
    rng = np.random.default_rng(8)
    if holes:
        state[rng.random(state.shape) < 0.3] = 0
        guides.axes[rng.random(state.shape) < 0.5] = 0.0
    kind = KINDS[number]
    n_seen = 0
    for row, col in np.argwhere(state[1:-1, 1:-1] > 0) + 1:
        own = [t[0] for t in terms_at(points, state, guides, number, row, col)]
        without = state.copy()
        without[row, col] = 0
        # what goes away with the vertex is what contains it
        whole = naive_residuals(points, state, guides, number, kind)
        rest = naive_residuals(points, without, guides, number, kind)
        assert np.sum(own) == pytest.approx(whole.sum() - rest.sum(), abs=1e-9)
        n_seen += np.count_nonzero(own)
    assert n_seen > 20


@pytest.mark.parametrize("number", range(3))
def test_guide_terms__gradients_agree_with_finite_differences(number):
    points, state, guides = rough_grid()

    def evaluate(position):
        moved = points.copy()
        moved[4, 4] = position
        terms = np.array(terms_at(moved, state, guides, number, 4, 4))
        return terms[:, 0].copy(), terms[:, 1:].copy()

    assert_jacobian(evaluate, points[4, 4], step=1e-3)


def test_guide_terms__axes_have_no_sign_and_unknown_ones_no_weight():
    points, state, guides = rough_grid()
    turned = guides._replace(axes=-guides.axes)
    unknown = guides._replace(axes=np.zeros_like(guides.axes))
    for number in range(3):
        expected = terms_at(points, state, guides, number, 4, 4)
        np.testing.assert_allclose(terms_at(points, state, turned, number, 4, 4), expected)
        assert not np.any(terms_at(points, state, unknown, number, 4, 4))


def test_guide_terms__a_mesh_along_its_axes_is_at_rest():
    rows, cols = np.mgrid[0:9, 0:9]
    points = np.stack([10.0 * cols, 10.0 * rows, np.full(rows.shape, 40.0)], -1)
    axes = np.broadcast_to(np.eye(3, dtype=np.float32), (9, 9, 3, 3)).copy()
    guides = AxisGuides(axes, np.array(KINDS), np.ones(3))
    state = np.full((9, 9), ON_SHEET, np.uint8)
    for number in range(3):
        np.testing.assert_allclose(terms_at(points, state, guides, number, 4, 4), 0.0, atol=1e-12)


def test_vertex_system__adds_the_guides_to_what_it_was():
    points, state, guides = rough_grid()
    weights = PlacementWeights(step=10.0, straightness=0.5, data=0.2, depth=2.0, edge_samples=5)
    plain, guided = np.zeros(9), np.zeros(9)
    at = points[4, 4].copy()
    cost = vertex_system(points, state, 4, 4, at, FAR, weights, False, plain)
    with_guides = weights._replace(guides=guides)
    total = vertex_system(points, state, 4, 4, at, FAR, with_guides, False, guided)
    terms = np.concatenate([terms_at(points, state, guides, n, 4, 4) for n in range(3)])
    assert total == pytest.approx(cost + 0.5 * (terms[:, 0] ** 2).sum(), rel=1e-12)
    gradient = (terms[:, :1] * terms[:, 1:]).sum(axis=0)
    np.testing.assert_allclose(guided[6:], plain[6:] + gradient, rtol=1e-12, atol=1e-12)


def test_guide_terms__edges_are_the_shared_residual():
    points, state, guides = rough_grid()
    edge = points[4, 5] - points[4, 4]
    axis = guides.axes[4, 4, 0].astype(float)
    expected = direction_residual(*edge, *axis, guides.weights[0])[0]
    assert terms_at(points, state, guides, 0, 4, 4)[0][0] == expected
