"""Consensus, growth, bridges and the fine surface, on planes where every answer is known."""

import numpy as np
import pytest
from trace_cases import STEP, begun, nodes_of, plane

from tracer.kernels.trace_bridge import bridge_gaps, fill_from_layout, layout_slopes
from tracer.kernels.trace_consensus import APPROVED_SCORE, is_contradicted, try_node
from tracer.kernels.trace_growth import grow_generation
from tracer.kernels.trace_output import fill_surface
from tracer.kernels.trace_regain import regain_support
from tracer.kernels.trace_state import SUPPORTED, SUPPORTS, clear_node, find_entry

SPACING = 2 * STEP
ALL = 1 << 60


def grow(made, threshold=2, generations=40, lenient=False):
    """Grow to the right until nothing is added; return what was refused."""
    trace, table, work, _, _ = made
    refused = np.zeros(3, np.int64)
    trace.make_room(30)
    for _ in range(generations):
        trace.generation += 1
        n = grow_generation(
            table,
            trace.state,
            trace.limits,
            work,
            0,
            25,
            trace.generation,
            threshold,
            False,
            lenient,
            ALL,
            refused,
        )
        if not n:
            break
    return refused


def offsets(trace):
    """Return how far nodes are from where the grid has them, (n, 3)."""
    nodes, rows = nodes_of(trace), trace.limits.n_rows
    xyz = trace.state.xyz[nodes]
    first = nodes[0]
    x = trace.state.xyz[first, 0] + SPACING * (nodes // rows - first // rows)
    z = trace.limits.top_z - SPACING * (nodes % rows)
    return xyz - np.stack([x, np.full(len(nodes), 50.0), z], axis=1)


@pytest.mark.parametrize("angle", [0.0, 0.5, 2.0])
def test_grow_generation__covers_a_plane_exactly(angle):
    made = begun([plane(100, 280, name="a", angle=angle)])
    grow(made)
    trace = made[0]
    assert len(nodes_of(trace)) >= 4 * 4
    assert np.abs(offsets(trace)).max() < 1e-2
    normal = trace.state.normal[nodes_of(trace)]
    assert np.allclose(np.abs(normal[:, 1]), 1.0, atol=1e-5)
    assert len(np.unique(np.sign(normal[:, 1]))) == 1


def test_grow_generation__goes_on_from_patch_to_patch():
    surfaces = [plane(100, 220, name="a"), plane(160, 340, name="b", angle=1.0)]
    made = begun(surfaces)
    grow(made)
    trace = made[0]
    assert np.abs(offsets(trace)).max() < 1e-2
    assert trace.state.xyz[nodes_of(trace), 0].max() > 310
    both = [n for n in nodes_of(trace) if 180 < trace.state.xyz[n, 0] < 200]
    assert both
    on = [[find_entry(trace.state, node, p) >= 0 for p in (0, 1)] for node in both]
    assert np.mean(on) > 0.7
    # an inner node has eight neighbours and six triples on each patch that is all around it
    inner = trace.state.n_entries[nodes_of(trace)] == 1
    assert trace.state.support[nodes_of(trace)][inner].max() <= 14


def test_grow_generation__a_patch_that_leads_elsewhere_stops_it():
    bent = plane(100, 340, name="b", bend=lambda x: 0.6 * np.maximum(x - 200, 0))
    refused = grow(made := begun([plane(100, 340, name="a"), bent]))
    assert refused[0] > 0
    assert 200 < made[0].state.xyz[nodes_of(made[0]), 0].max() < 280
    alone = begun([plane(100, 340, name="a")])
    assert grow(alone)[0] == 0
    assert alone[0].state.xyz[nodes_of(alone[0]), 0].max() > 310


def test_grow_generation__approved_patches_are_followed():
    bent = plane(100, 340, name="b", bend=lambda x: 0.6 * np.maximum(x - 200, 0))
    good = plane(100, 340, name="a", tags={"approved": {}})
    made = begun([good, bent])
    grow(made)
    assert made[0].state.xyz[nodes_of(made[0]), 0].max() > 310
    assert np.abs(offsets(made[0])).max() < 1e-2


def test_grow_generation__does_not_run_over_itself():
    turn = np.linspace(0, 2.6 * np.pi, 60)
    z = np.arange(100.0, 20.0, -STEP)
    radius = 60 * STEP / (2.6 * np.pi)
    points = np.stack(
        [
            np.broadcast_to(150 + radius * np.cos(turn), (8, 60)),
            np.broadcast_to(150 + radius * np.sin(turn), (8, 60)),
            np.broadcast_to(z[:, None], (8, 60)),
        ],
        axis=-1,
    )
    whole = plane(100, 200, name="a")
    halves = []
    for k, part in enumerate((slice(0, 30), slice(20, 50), slice(40, 60))):
        halves.append(
            type(whole)(
                points_xyz=points[:, part].astype(np.float32),
                valid=np.ones(points[:, part].shape[:2], bool),
                scale=whole.scale,
                meta={"uuid": f"p{k}", "tags": {}},
            )
        )
    made = begun(halves, layout=False)
    refused = grow(made)
    cols = np.unique(nodes_of(made[0]) // made[0].limits.n_rows)
    assert refused[1] > 0
    assert len(cols) * SPACING < 1.2 * 2 * np.pi * radius


def test_try_node__scores_and_lenience():
    surfaces = [plane(100, 260, name="a", tags={"approved": {}}), plane(100, 260, name="b")]
    trace, table, work, _, _ = begun(surfaces)
    rows = trace.limits.n_rows
    trace.make_room(10)
    top = nodes_of(trace)[0]
    node = top + 2 * rows
    try_node(table, trace.state, trace.limits, work, node, False)
    # on each patch two neighbours and one triple
    assert trace.state.tried_score[node] == 2 * 3 + 0
    assert trace.state.tried_against[node] == 0
    assert not is_contradicted(trace.state, trace.limits, node)
    assert np.allclose(
        trace.state.tried_place[node, :3] - trace.state.xyz[top], [2 * SPACING, 0, 0], atol=0.2
    )
    # two straight triples on an approved patch settle it
    for near in (node, node + 1):
        try_node(table, trace.state, trace.limits, work, near, False)
    below = top + 2
    try_node(table, trace.state, trace.limits, work, below, False)
    assert trace.state.tried_score[below] < APPROVED_SCORE
    # a node diagonal to the trace: one neighbour, no triple
    corner = top + 2 * rows - 1
    try_node(table, trace.state, trace.limits, work, corner, False)
    assert trace.state.tried_score[corner] == -1
    try_node(table, trace.state, trace.limits, work, corner, True)
    assert trace.state.tried_score[corner] == 2


def test_layout__refuses_patches_on_another_wrap():
    surfaces = [plane(100, 220, name="a"), plane(160, 340, name="b")]
    made = begun(surfaces, moved={"b": 700.0})
    grow(made)
    trace = made[0]
    assert trace.state.xyz[nodes_of(trace), 0].max() < 225
    assert all(find_entry(trace.state, n, 1) < 0 for n in nodes_of(trace))


def test_bridge_gaps__crosses_a_gap_by_the_layout():
    surfaces = [plane(100, 220, name="a"), plane(270, 400, name="b", angle=2.0)]
    made = begun(surfaces)
    grow(made)
    trace, table, work, _, _ = made
    n = len(nodes_of(trace))
    slopes = layout_slopes(trace.state, trace.limits.n_rows, 0, 25)
    assert np.allclose(np.abs(slopes[:4]), [0, SPACING, SPACING, 0], atol=0.01)
    added = [
        bridge_gaps(table, trace.state, trace.limits, work, 0, 25, trace.generation + 1, reach)
        for reach in (1, 2, 3, 4)
    ]
    assert added[0] == 0
    assert sum(added) > 0
    assert len(nodes_of(trace)) == n + sum(added)
    grow(made)
    assert trace.state.xyz[nodes_of(trace), 0].max() > 370
    assert np.abs(offsets(trace)).max() < 0.5
    without = begun(surfaces, layout=False)
    grow(without)
    assert (
        bridge_gaps(without[1], without[0].state, without[0].limits, without[2], 0, 25, 9, 4) == 0
    )


def test_fill_surface__is_the_plane():
    made = begun([plane(100, 280, name="a"), plane(100, 280, name="b", angle=1.0)])
    grow(made)
    trace, table, work, params, _ = made
    rows, cols, step = trace.limits.n_rows, trace.used_cols, params.step
    shape = ((rows + 1) * step + 1, (cols + 1) * step + 1)
    xyz, corners = np.full((*shape, 3), np.nan, np.float32), np.zeros(shape, np.uint8)
    support, confidence = np.zeros(shape, np.uint16), np.zeros(shape, np.float32)
    fill_surface(
        table,
        trace.state,
        work,
        rows,
        0,
        cols,
        step,
        2.0,
        0.3,
        40.0,
        100.0,
        xyz,
        corners,
        support,
        confidence,
    )
    valid = np.isfinite(xyz[..., 0])
    assert valid.sum() > 60
    node = nodes_of(trace)[0]
    at = trace.state.xyz[node]
    row, col = np.nonzero(valid)
    expected = np.stack(
        [
            at[0] + STEP * (col - step * (node // rows + 1)),
            np.full(len(row), 50.0),
            at[2] - STEP * (row - step * (node % rows + 1)),
        ],
        axis=1,
    )
    assert np.abs(xyz[valid] - expected).max() < 0.05
    assert xyz[valid][:, 2].min() >= 40.0
    assert xyz[valid][:, 2].max() <= 100.0
    assert (support[valid] >= 1).all()
    assert support.max() == 2
    assert (confidence[valid] > 0).all()
    assert confidence.max() <= 1.0


def test_fill_surface__leaves_out_where_patches_contradict():
    surfaces = [plane(100, 280, name="a"), plane(100, 280, name="b")]
    made = begun(surfaces)
    grow(made)
    trace, table, work, params, _ = made
    rows, cols, step = trace.limits.n_rows, trace.used_cols, params.step
    vertices = table.mesh.vertices.copy()
    vertices[int(table.mesh.patch_start[1]) :, 1] += 9.0  # b moved after it was judged
    moved = table._replace(mesh=table.mesh._replace(vertices=vertices))
    shape = ((rows + 1) * step + 1, (cols + 1) * step + 1)
    xyz, corners = np.full((*shape, 3), np.nan, np.float32), np.zeros(shape, np.uint8)
    support, confidence = np.zeros(shape, np.uint16), np.zeros(shape, np.float32)
    fill_surface(
        moved,
        trace.state,
        work,
        rows,
        0,
        cols,
        step,
        2.0,
        0.3,
        0.0,
        200.0,
        xyz,
        corners,
        support,
        confidence,
    )
    assert not np.isfinite(xyz[..., 0]).any()


def test_fill_from_layout__finds_the_plane_beyond_the_cells():
    trace, table, work, params, _ = made = begun(
        [plane(100, 280, name="a"), plane(100, 280, name="b", angle=1.0)]
    )
    grow(made)
    rows, cols, step = trace.limits.n_rows, trace.used_cols, params.step
    shape = ((rows + 1) * step + 1, (cols + 1) * step + 1)
    xyz, support = np.full((*shape, 3), np.nan, np.float32), np.zeros(shape, np.uint16)
    confidence = np.zeros(shape, np.float32)
    given = xyz[4, 4] = (1.0, 2.0, 3.0)  # what is there stays
    n = fill_from_layout(
        table, trace.state, trace.limits, work, cols, step, 2, xyz, support, confidence
    )
    assert tuple(xyz[4, 4]) == given
    xyz[4, 4] = np.nan
    row, col = np.nonzero(np.isfinite(xyz[..., 0]))
    assert len(row) == n
    assert n > 100
    node = nodes_of(trace)[0]
    at = trace.state.xyz[node]
    x = at[0] + STEP * (col - step * (node // rows + 1))
    z = at[2] - STEP * (row - step * (node % rows + 1))
    expected = np.stack([x, np.full(n, 50.0), z], axis=1)
    assert np.abs(xyz[row, col] - expected).max() < 0.1
    assert set(np.unique(support[row, col])) == {1, 2}
    assert 0.0 < confidence[row, col].min() < confidence.max() <= 0.5
    bare = begun([plane(100, 280, name="a")], layout=False)
    grow(bare)
    assert not fill_from_layout(
        bare[1], bare[0].state, bare[0].limits, bare[2], 5, step, 2, xyz, support, confidence
    )


def test_regain_support__keeps_what_patches_support():
    made = begun([plane(100, 280, name="a"), plane(100, 280, name="b", angle=1.0)])
    grow(made)
    trace, table, work, _, _ = made
    state, limits = trace.state, trace.limits
    full = [n for n in nodes_of(trace) if (state.n_entries[n] == 2)]
    node = full[len(full) // 2]
    generation = state.generation[node]
    state.xyz[node] += [0.7, 0.4, -0.6]
    moved = state.xyz[node].copy()
    assert regain_support(table, state, limits, work, node, 2)
    assert np.array_equal(state.xyz[node], moved)
    assert state.status[node] == SUPPORTED
    assert state.generation[node] == generation
    assert (state.entry_state[node, :2] == SUPPORTS).all()
    # off every patch, beyond the heights, or with more support asked for than there is
    for shift, threshold in (([0, 5.0, 0], 2), ([0, 0, 500.0], 2), ([0, 0, 0], 1000)):
        state.xyz[node] = moved + np.array(shift, float)
        assert not regain_support(table, state, limits, work, node, threshold)
        assert state.status[node] == 0
        assert state.n_entries[node] == 0
        state.status[node] = SUPPORTED
    clear_node(state, node)


def test_turn_round__twice_is_nothing():
    made = begun([plane(100, 220, name="a"), plane(160, 340, name="b", angle=1.0)])
    grow(made)
    trace = made[0]
    n = trace.used_cols * trace.limits.n_rows
    before = {k: v[: n if len(v) >= n else None].copy() for k, v in trace.state._asdict().items()}
    trace.turn_round()
    assert trace.flipped
    rows = trace.limits.n_rows
    node = nodes_of(trace)[0]
    other = (trace.used_cols - 1 - node // rows) * rows + node % rows
    assert np.array_equal(trace.state.xyz[node], before["xyz"][other])
    trace.turn_round()
    for name, value in trace.state._asdict().items():
        if name != "dirty":
            assert np.array_equal(value, before[name], equal_nan=value.dtype.kind == "f"), name
