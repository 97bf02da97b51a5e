import numpy as np
import pytest
from naive.unroll import bilinear

from tracer.kernels.unroll_raster import combine_samples, invert_quad, rasterise_quads


@pytest.mark.parametrize("seed", range(6))
def test_invert_quad__undoes_the_bilinear_map(seed):
    rng = np.random.default_rng(seed)
    corners = np.array([[0, 0], [2, 0.2], [0.1, 1.5], [2.2, 1.8]]) + rng.normal(0, 0.1, (4, 2))
    s, t = rng.uniform(0, 1, 2)
    u, v = bilinear(corners, s, t)
    found_s, found_t, inside = invert_quad(u, v, tuple(corners.ravel()), 0.0, 0.0)
    assert inside
    assert (found_s, found_t) == pytest.approx((s, t), abs=1e-9)


def test_invert_quad__point_outside_and_degenerate_quad():
    square = (0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0)
    assert not invert_quad(1.5, 0.5, square, 0.0, 0.0)[2]
    assert not invert_quad(1.5, 0.5, square, 0.4, 0.6)[2]
    assert invert_quad(1.5, 0.5, square, 0.6, 0.0) == (1.5, 0.5, True)
    assert not invert_quad(0.0, 0.0, (0.0,) * 8, 0.0, 0.0)[2]


def test_rasterise_quads__linear_values_are_reproduced_at_every_node_once_per_quad():
    rng = np.random.default_rng(0)
    rows, cols = np.meshgrid(np.arange(4), np.arange(5), indexing="ij")
    uv = np.stack([cols.ravel(), rows.ravel()], axis=1) * 3.0 + rng.uniform(-0.4, 0.4, (20, 2))
    number = np.arange(20).reshape(4, 5)
    quads = np.stack(
        [number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]], axis=-1
    ).reshape(-1, 4)
    values = np.stack([2 * uv[:, 0] - uv[:, 1] + 1, uv[:, 1]], axis=1)
    node, quad = np.empty(600, np.int64), np.empty(600, np.int32)
    value = np.empty((600, 2), np.float32)
    wanted = np.ones((18, 25), bool)
    n = rasterise_quads(
        quads.astype(np.int32), uv, values, np.zeros(2), 0.5, wanted, 0.0, node, quad, value
    )
    assert 300 < n <= 600
    at = np.stack([node[:n] % 25, node[:n] // 25], axis=1) * 0.5
    assert value[:n, 0] == pytest.approx(2 * at[:, 0] - at[:, 1] + 1, abs=1e-4)
    inner = (at > 0.5).all(axis=1) & (at[:, 0] < 11.5) & (at[:, 1] < 8.5)
    assert np.unique(node[:n][inner]).size == 21 * 15
    assert inner.sum() == 21 * 15


def test_rasterise_quads__continues_a_quad_at_wanted_nodes_only():
    """A quad of 2 x 2 nodes, continued by one: linear values go on."""
    uv = np.array([[2.0, 2.0], [4.0, 2.0], [2.0, 4.0], [4.0, 4.0]])
    values = np.column_stack([uv[:, 0] - 3 * uv[:, 1]])
    wanted = np.zeros((8, 8), bool)
    wanted[:, :3] = True
    node, quad = np.empty(64, np.int64), np.empty(64, np.int32)
    value = np.empty((64, 1), np.float32)
    place = np.array([[0, 1, 2, 3]], np.int32), uv, values, np.zeros(2), 1.0
    n = rasterise_quads(*place, wanted, 1.0, node, quad, value)
    row, col = np.divmod(node[:n], 8)
    assert set(zip(row.tolist(), col.tolist(), strict=True)) == {
        (r, c) for r in range(1, 6) for c in (1, 2)
    }
    assert value[:n, 0] == pytest.approx(col - 3 * row)


def combine(points, weights, starts):
    m, k = len(starts) - 1, len(points)
    xyz, agreeing, share = np.empty((m, 3)), np.empty(m), np.empty(m)
    spread, outlier = np.empty(m), np.zeros(k, bool)
    combine_samples(
        np.asarray(starts, np.int64),
        np.asarray(points, np.float32),
        np.asarray(weights, np.float32),
        1.0,
        4.0,
        xyz,
        agreeing,
        share,
        spread,
        outlier,
    )
    return xyz, agreeing, share, spread, outlier


def test_combine_samples__equal_samples_are_themselves():
    xyz, agreeing, share, spread, outlier = combine([[1, 2, 3]] * 3, [1, 1, 1], [0, 3])
    assert xyz[0].tolist() == [1, 2, 3]
    assert (agreeing[0], share[0], spread[0]) == (3, 1, 0)
    assert not outlier.any()


def test_combine_samples__another_sheet_does_not_pull():
    points = [[0, 0, 0], [0.2, 0, 0], [-0.2, 0, 0], [10, 0, 0], [10.1, 0, 0]]
    xyz, agreeing, share, _, outlier = combine(points, [1] * 5, [0, 5])
    assert xyz[0] == pytest.approx([0, 0, 0], abs=1e-3)
    assert agreeing[0] == 3
    assert share[0] == pytest.approx(0.6)
    assert outlier.tolist() == [False] * 3 + [True] * 2


def test_combine_samples__node_without_samples_is_nan():
    xyz, agreeing, *_ = combine([[1, 2, 3]], [1], [0, 0, 1])
    assert np.isnan(xyz[0]).all()
    assert agreeing.tolist() == [0, 1]
