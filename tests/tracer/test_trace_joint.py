"""The joint optimisation of a window, on planes where the answer is known."""

import numpy as np
import pytest
from trace_cases import begun, nodes_of, plane

from tracer.errors import TracerWarning
from tracer.kernels import ceres_native
from tracer.trace.growth import grow
from tracer.trace.joint import optimise_window, solve_window


def grown(surfaces, **values):
    made = begun(surfaces, bridge=0, consensus_limit_th=2, **values)
    trace, table, work, params, _ = made
    grow(trace, table, work, params, lambda _: True)
    trace.first_col, trace.last_col = 0, trace.used_cols
    return made


@pytest.fixture
def made():
    """A trace over two patches."""
    return grown([plane(100, 280, name="a"), plane(120, 340, name="b", angle=1.0)])


def test_solve_window__is_at_rest_on_a_plane(made):
    trace, table, _, params, _ = made
    nodes = nodes_of(trace)
    before = trace.state.xyz[nodes].copy()
    start, end = solve_window(trace, table, params, nodes, nodes[:3])
    assert start < 1e-6
    assert end <= start
    assert np.abs(trace.state.xyz[nodes] - before).max() < 1e-2


def test_solve_window__puts_moved_nodes_back(made):
    trace, table, _, params, _ = made
    nodes = nodes_of(trace)
    held = nodes[: trace.limits.n_rows]
    true = trace.state.xyz[nodes].copy()
    rng = np.random.default_rng([1])
    moved = ~np.isin(nodes, held)
    trace.state.xyz[nodes[moved]] += rng.normal(0, 1.5, (int(moved.sum()), 3))
    start, end = solve_window(trace, table, params, nodes, held)
    assert end < 0.02 * start
    assert np.array_equal(trace.state.xyz[held], true[~moved])
    off = np.linalg.norm(trace.state.xyz[nodes] - true, axis=1)
    assert np.median(off[moved]) < 0.3


def test_solve_window__native_and_python_agree(made, monkeypatch):
    trace, table, _, params, _ = made
    nodes = nodes_of(trace)[:12]
    trace.state.xyz[nodes[4:]] += [0.3, 0.5, -0.4]
    start = trace.state.xyz.copy(), trace.state.entry_location.copy()
    found = []
    for reason in ("", "told so"):
        trace.state.xyz[:], trace.state.entry_location[:] = start
        monkeypatch.setattr(ceres_native, "native_status", lambda reason=reason: reason)
        monkeypatch.setattr(ceres_native, "_warn_once", lambda _: None)
        solve_window(trace, table, params, nodes, nodes[:4])
        found.append(trace.state.xyz[nodes].copy())
    assert np.allclose(found[0], found[1], atol=1e-6)


def test_optimise_window__closes_a_hole_and_finds_its_support():
    holed = plane(100, 340, name="a")
    points = holed.points_xyz
    other = plane(170, 250, name="b", z=(40.0, 100.0), angle=0.3)
    gap = (np.abs(points[..., 0] - 205) < 16) & (np.abs(points[..., 2] - 70) < 16)
    cut = type(holed)(
        points_xyz=points, valid=holed.valid & ~gap, scale=holed.scale, meta=holed.meta
    )
    trace, table, work, params, _ = grown([cut])
    rows = trace.limits.n_rows
    empty = trace.state.status[: trace.used_cols * rows] == 0
    assert empty.any()
    assert optimise_window(trace, table, work, params) == (0, 0)  # no patch in the hole: stays
    assert (trace.state.status[: trace.used_cols * rows] != 2).all()
    both = grown([cut, other])
    n = len(nodes_of(both[0]))
    gained, lost = optimise_window(*both[:4])
    assert lost == 0
    assert len(nodes_of(both[0])) == n + gained
    off = np.abs(both[0].state.xyz[nodes_of(both[0]), 1] - 50.0)
    assert off.max() < 0.05


def test_grow__optimises_every_window():
    made = begun(
        [plane(100, 700, name="a"), plane(100, 700, name="b")],
        global_steps_per_window=2,
        sliding_w_scale=0.06,
        both_ways=False,
    )
    trace, table, work, params, _ = made
    grow(trace, table, work, params, lambda _: True)
    assert trace.finished
    assert trace.joint[0] >= 3
    assert trace.joint[2] == 0
    xyz = trace.state.xyz[nodes_of(trace)]
    assert xyz[:, 0].max() > 670
    assert np.abs(xyz[:, 1] - 50.0).max() < 1e-3


def test_params__warn_of_nothing_that_is_honoured(recwarn):
    begun([plane(100, 280, name="a")], global_steps_per_window=1, dist_loss_3d_w=1.0)
    assert not [w for w in recwarn if issubclass(w.category, TracerWarning)]
