import numpy as np
import pytest
from field_views import sheet_codes, sheet_height, view_of_codes

from tracer.growing_grid import GrowingGrid
from tracer.kernels import growth, growth_grid, growth_judgement, growth_settling
from tracer.kernels.field_sampling import CHUNK, NOT_LOADED
from tracer.kernels.growth_chunks import chunks_near
from tracer.kernels.placement import BRIDGED, EMPTY, MAX_SHIFT, ON_SHEET, place_vertex
from tracer.seed_params import SeedParams

PARAMS = SeedParams(step_size=8.0, generations=12)
THICKNESS = 4.0
MIDDLE = np.array([70.0, 50.0])


def wavy_view(hole=None):
    codes = sheet_codes((80, 128, 128), cap=8.0)
    if hole is not None:
        low, high = hole
        codes[:, low[1] : high[1], low[0] : high[0]] = 128
    return view_of_codes(codes, 8.0)


def started(params=PARAMS):
    grid = GrowingGrid(params.generations)
    origin = np.array([*MIDDLE, sheet_height(*MIDDLE)])
    u, v = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    grid.put_quad(origin, u, v, params.step_size, THICKNESS)
    return grid


def grow(view, params=PARAMS):
    grid = started(params)
    weights, limits = params.weights(THICKNESS), params.limits()
    growth_settling.relax(grid.patch, grid.box, 0, view, weights, 10, grid.work)
    status = growth.grow_generations(
        grid.patch,
        grid.fringe,
        grid.counters,
        grid.levels,
        grid.rejections,
        view,
        weights,
        limits,
        50.0,
        grid.work,
    )
    return grid, status


@pytest.mark.jit_only
def test_grow_generations__covers_the_sheet_and_stays_on_it():
    grid, status = grow(wavy_view())
    points = grid.patch.points[grid.patch.state == ON_SHEET]
    assert status in (growth_grid.FINISHED, growth_grid.ALL_GENERATIONS)
    assert len(points) > 100
    assert np.median(np.abs(points[:, 2] - sheet_height(points[:, 0], points[:, 1]))) < 0.3
    assert (points >= 0.0).all()
    assert (points[:, :2] <= 127.0).all()


@pytest.mark.jit_only
def test_grow_generations__counts_what_it_accepts():
    grid, _ = grow(wavy_view())
    accepted = int((grid.patch.state == ON_SHEET).sum())
    assert grid.counters[growth_grid.ACCEPTED] == accepted
    assert grid.rejections[growth_grid.ACCEPT] == accepted - 4
    assert set(growth_grid.REASON_NAMES) == set(range(1, growth_grid.N_REASONS))


@pytest.mark.jit_only
def test_grow_generations__leaves_out_a_hole():
    grid, _ = grow(wavy_view(hole=((84, 40), (110, 66))))
    points = grid.patch.points[grid.patch.state == ON_SHEET]
    inside = (points[:, 0] > 87) & (points[:, 0] < 107) & (points[:, 1] > 43) & (points[:, 1] < 63)
    assert len(points) > 80
    assert not inside.any()


@pytest.mark.jit_only
def test_grow_generations__is_repeatable_bit_for_bit():
    first, second = grow(wavy_view())[0], grow(wavy_view())[0]
    assert first.patch.points.tobytes() == second.patch.points.tobytes()
    assert first.patch.state.tobytes() == second.patch.state.tobytes()


def test_grow_generations__asks_for_chunks_before_it_samples_them():
    view = wavy_view()
    view.table[:] = NOT_LOADED
    grid = started()
    before = grid.patch.points.copy()
    status = growth.grow_generations(
        grid.patch,
        grid.fringe,
        grid.counters,
        grid.levels,
        grid.rejections,
        view,
        PARAMS.weights(THICKNESS),
        PARAMS.limits(),
        50.0,
        grid.work,
    )
    assert status == growth_grid.NEEDS_CHUNKS
    assert grid.counters[growth_grid.GENERATION] == 1
    np.testing.assert_array_equal(grid.patch.points, before)
    assert (grid.active_chunks(50.0, 3) == 0).all(axis=1).any()


@pytest.mark.jit_only
def test_close_holes__fills_a_single_missing_vertex_on_the_sheet():
    view = wavy_view()
    grid, _ = grow(view)
    row, col = grid.border, grid.border
    true = grid.patch.points[row, col].copy()
    grid.patch.state[row, col] = EMPTY
    grid.patch.points[row, col] = -1.0
    filled = growth_settling.close_holes(
        grid.patch, grid.box, view, PARAMS.weights(THICKNESS), PARAMS.limits(), grid.work
    )
    assert filled >= 1
    assert grid.patch.state[row, col] == BRIDGED
    np.testing.assert_allclose(grid.patch.points[row, col], true, atol=1.5)


def neighbours(offset):
    """Return a grid whose middle vertex has one neighbour, shifted along the normal."""
    grid = GrowingGrid(4)
    row, col = grid.border, grid.border
    grid.patch.state[row, col + 1] = ON_SHEET
    grid.patch.points[row, col + 1] = 20.0, 0.0, offset
    grid.patch.normals[row, col + 1] = 0.0, 0.0, 1.0
    return grid, row, col


@pytest.mark.parametrize(
    ("offset", "reason"),
    [(0.0, growth_grid.ACCEPT), (2.0, growth_grid.ACCEPT), (8.0, growth_grid.SLIP)],
)
def test_judge_neighbours__refuses_another_sheet(offset, reason):
    grid, row, col = neighbours(offset)
    normal = np.array([0.0, 0.0, 1.0])
    found = growth_judgement.judge_neighbours(
        grid.patch, row, col, np.zeros(3), normal, PARAMS.limits()
    )
    assert found == reason


@pytest.mark.parametrize("radius", [30.0, 60.0, 500.0])
def test_judge_neighbours__accepts_every_circle_that_does_not_turn_too_much(radius):
    angle = 20.0 / radius
    grid, row, col = neighbours(0.0)
    grid.patch.points[row, col + 1] = radius * np.sin(angle), 0.0, radius * (np.cos(angle) - 1.0)
    grid.patch.normals[row, col + 1] = np.sin(angle), 0.0, np.cos(angle)
    limits = PARAMS.limits()._replace(max_turn=1.0)
    normal = np.array([0.0, 0.0, 1.0])
    found = growth_judgement.judge_neighbours(grid.patch, row, col, np.zeros(3), normal, limits)
    assert found == growth_grid.ACCEPT


def test_judge_neighbours__refuses_opposite_normals():
    grid, row, col = neighbours(0.0)
    normal = np.array([0.0, 0.0, -1.0])
    found = growth_judgement.judge_neighbours(
        grid.patch, row, col, np.zeros(3), normal, PARAMS.limits()
    )
    assert found == growth_grid.TILT


def grid_on(height):
    """Return a grid of 5 x 5 vertices at a height, and the row and column of its middle."""
    grid = GrowingGrid(4)
    row, col = grid.border, grid.border
    for r in range(row - 2, row + 3):
        for c in range(col - 2, col + 3):
            x, y = 60.0 + 8.0 * (c - col), 60.0 + 8.0 * (r - row)
            grid.patch.points[r, c] = x, y, height(x)
            grid.patch.normals[r, c] = 0.0, 0.0, 1.0
            grid.patch.state[r, c] = ON_SHEET
    grid.patch.state[row, col] = EMPTY
    return grid, row, col


@pytest.mark.parametrize(("step", "reason"), [(0.0, growth_grid.ACCEPT), (5.0, growth_grid.ROUGH)])
def test_judge_vertex__refuses_where_the_scans_jump_to_another_sheet(step, reason):
    z, y, x = np.indices((80, 120, 120))
    middle = np.where((x - 59.5) * (y - 59.5) > 0, 40.0 + step, 40.0)  # two of four quadrants
    signed = np.abs(z - middle) - 2.0
    codes = (np.round(8.0 * np.clip(signed, -8.0, 8.0)) + 64.0).astype(np.uint8)
    grid, row, col = grid_on(lambda x: 40.0)
    limits = PARAMS.limits()._replace(worst_distance=9.0, max_tilt=1.0)
    found = growth_judgement.judge_vertex(
        *(grid.patch, row, col, view_of_codes(codes, 8.0), np.array([60.0, 60.0, 40.0])),
        *(THICKNESS, 1, limits, grid.work),
    )
    assert found == reason


def test_chunks_near__are_those_that_cubes_overlap_in_order():
    points = np.random.default_rng(3).uniform(-40.0, 700.0, (60, 3))
    for reach in (0.0, 20.0, 150.0):
        expected = set()
        for point in points[:, ::-1]:
            low = np.floor((point - reach) / CHUNK).astype(int)
            high = np.floor((point + reach) / CHUNK).astype(int)
            expected |= {tuple(low + offset) for offset in np.ndindex(*(high - low + 1))}
        found = [tuple(chunk) for chunk in chunks_near(points, reach).tolist()]
        assert found == sorted(expected)
    assert chunks_near(np.zeros((0, 3)), 50.0).shape == (0, 3)


def test_place_vertex__stays_within_reach_of_its_start():
    view = wavy_view()
    grid = started()
    row, col = grid.border + 2, grid.border
    position = grid.patch.points[row - 1, col] + [0.0, 8.0, 11.0]  # the structure pulls it down
    start = position.copy()
    weights = PARAMS.weights(THICKNESS)
    place_vertex(
        *(grid.patch.points, grid.patch.state, row, col, position, view, weights),
        *(True, 12, 6, 0.01, grid.work),
    )
    assert 0.0 < np.linalg.norm(position - start) <= MAX_SHIFT * PARAMS.step_size


@pytest.mark.jit_only
def test_grow_generations__samples_nothing_beyond_its_reach():
    """Chunks that are not loaded count as the cap: growth would see it."""
    codes = sheet_codes((80, 300, 300), cap=8.0)
    view = view_of_codes(codes, 8.0)
    reach = growth.REACH_STEPS * PARAMS.step_size + 14.0

    weights, limits = PARAMS.weights(THICKNESS), PARAMS.limits()
    results = []
    for lazy in (False, True):
        table = np.full_like(view.table, NOT_LOADED) if lazy else view.table.copy()
        grid = started()
        inner = view._replace(table=table)
        for chunk in grid.active_chunks(reach + 16.0, 3):
            if ((chunk >= 0) & (chunk < table.shape)).all():
                table[tuple(chunk)] = view.table[tuple(chunk)]
        growth_settling.relax(grid.patch, grid.box, 0, inner, weights, 10, grid.work)
        while True:
            status = growth.grow_generations(
                *(grid.patch, grid.fringe, grid.counters, grid.levels, grid.rejections),
                *(inner, weights, limits, reach, grid.work),
            )
            if status != growth_grid.NEEDS_CHUNKS:
                break
            for chunk in grid.active_chunks(reach, limits.relax_rings):
                if ((chunk >= 0) & (chunk < table.shape)).all():
                    table[tuple(chunk)] = view.table[tuple(chunk)]
        results.append((grid, int((table == NOT_LOADED).sum())))
    (whole, _), (lazily, n_missing) = results
    assert n_missing > 0
    assert lazily.patch.points.tobytes() == whole.patch.points.tobytes()
