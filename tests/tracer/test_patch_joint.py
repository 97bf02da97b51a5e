"""The last, joint optimisation of a patch: what it gains, its windows, and what it puts back."""

import numpy as np
import pytest
from sheet_volume import on_sheet, sheet_offsets, small_params

from tracer import patch_joint
from tracer.distance_field import DistanceField
from tracer.growing_grid import GrowingGrid
from tracer.kernels.placement import BRIDGED, ON_SHEET
from tracer.patch_growth import grow_patch
from tracer.patch_joint import optimise_jointly
from tracer.surface import Surface

POINT = np.array(on_sheet(1, 70, 64))
PARAMS = small_params(generations=10)


@pytest.fixture(scope="module")
def field(sheet_volume):
    return DistanceField(sheet_volume)


@pytest.fixture(scope="module")
def patch(field):
    return grow_patch(field, POINT, PARAMS)


def grid_of(patch, params=PARAMS):
    grid = GrowingGrid(1, *patch.state.shape)
    surface = Surface(points_xyz=patch.points_xyz, valid=patch.state > 0)
    normals = np.nan_to_num(surface.normals()).astype(np.float64)
    grid.put_patch(
        patch.points_xyz, normals, patch.state, patch.generations.astype(int), patch.thickness
    )
    return grid, params.weights(patch.thickness), params.limits()


def off_sheet(points_xyz):
    return np.abs(sheet_offsets(points_xyz)[..., 1])


def test_grow_patch__joint_iterations_bring_it_closer_to_the_mid_line(field, patch):
    joint = grow_patch(field, POINT, small_params(generations=10, joint_iterations=20))
    np.testing.assert_array_equal(joint.state, patch.state)
    np.testing.assert_array_equal(joint.generations, patch.generations)
    placed = patch.state > 0
    before, after = off_sheet(patch.points_xyz[placed]), off_sheet(joint.points_xyz[placed])
    assert np.percentile(after, 95) < 0.95 * np.percentile(before, 95)
    assert np.median(after) < 1.02 * np.median(before)
    again = grow_patch(field, POINT, small_params(generations=10, joint_iterations=20))
    assert again.points_xyz.tobytes() == joint.points_xyz.tobytes()


def test_optimise_jointly__small_windows_come_close_to_one_that_holds_all(
    field, patch, monkeypatch
):
    results = []
    for side in (64, 8):
        monkeypatch.setattr(patch_joint, "_LARGEST_WINDOW", side)
        grid, weights, limits = grid_of(patch)
        n_back = optimise_jointly(field, grid, weights, limits, 40)
        assert n_back < 0.1 * (patch.state > 0).sum()
        results.append(grid.patch.points[grid.patch.state > 0])
    placed = patch.points_xyz[patch.state > 0]
    moved = np.linalg.norm(results[0] - placed, axis=-1)
    apart = np.linalg.norm(results[0] - results[1], axis=-1)
    assert max(patch.state.shape) > 16  # or there would be one window only
    assert np.median(apart) < 0.5 * np.median(moved)
    assert np.median(moved) > 0.05


def test_optimise_jointly__puts_back_what_would_be_refused(field, patch, monkeypatch):
    grid, weights, limits = grid_of(patch)
    accepted = np.argwhere(grid.patch.state == ON_SHEET)
    row, col = accepted[len(accepted) // 2]
    before = grid.patch.points.copy()

    def throw_off(points, valid, *_, **__):
        moved = points.copy()
        moved[valid] += [0.01, 0.0, 0.0]
        at = np.argwhere((points == before[row, col]).all(axis=-1))
        moved[tuple(at.T)] += [6.0, 0.0, 0.0]
        return moved, None

    monkeypatch.setattr(patch_joint, "optimise_patch", throw_off)
    n_back = optimise_jointly(field, grid, weights, limits, 20)
    np.testing.assert_array_equal(grid.patch.points[row, col], before[row, col])
    back = (grid.patch.points == before).all(axis=-1) & (grid.patch.state > 0)
    assert n_back == back.sum()
    assert 1 <= n_back < 30
    distances = field.sample(grid.patch.points[grid.patch.state == ON_SHEET])
    assert distances.max() <= limits.worst_distance


def test_optimise_jointly__a_bridged_vertex_may_not_leave_the_prediction(field, patch, monkeypatch):
    grid, weights, limits = grid_of(patch)
    accepted = np.argwhere(grid.patch.state == ON_SHEET)
    row, col = accepted[len(accepted) // 2]
    grid.patch.state[row, col] = BRIDGED
    before = grid.patch.points.copy()

    def shift(points, valid, *_, **__):
        moved = points.copy()
        at = np.argwhere((points == before[row, col]).all(axis=-1))
        moved[tuple(at.T)] += [5.0, 0.0, 0.0]
        return moved, None

    monkeypatch.setattr(patch_joint, "optimise_patch", shift)
    optimise_jointly(field, grid, weights, limits, 20)
    np.testing.assert_array_equal(grid.patch.points[row, col], before[row, col])


def test_optimise_jointly__loads_the_field_window_by_window(field, patch, monkeypatch):
    monkeypatch.setattr(patch_joint, "_LARGEST_WINDOW", 8)
    sizes = []
    whole = patch_joint.optimise_patch

    def measured(points, valid, *rest, fixed, **named):
        sizes.append(valid.shape)
        moved, report = whole(points, valid, *rest, fixed=fixed, **named)
        np.testing.assert_array_equal(moved[fixed], points[fixed])
        for ring in np.s_[:2], np.s_[-2:], np.s_[:, :2], np.s_[:, -2:]:
            assert (fixed | ~valid)[ring].all()
        return moved, report

    monkeypatch.setattr(patch_joint, "optimise_patch", measured)
    grid, weights, limits = grid_of(patch)
    optimise_jointly(field, grid, weights, limits, 2)
    assert len(sizes) >= 4
    assert max(max(size) for size in sizes) <= 8 + 2 * (4 + 2)
