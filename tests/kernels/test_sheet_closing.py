"""Closing holes in the plane of a sheet."""

import numpy as np
import pytest

from tracer.kernels.sheet_closing import close_along_sheet


def _scene(axis=0, positions=(12, 17), hole=2, thickness=2):
    """Return flat sheets with a square hole of 2 hole + 1 voxels, and their normals."""
    solid = np.zeros((28, 28, 28), bool)
    for position in positions:
        solid[position : position + thickness] = True
    holed = solid.copy()
    holed[:, 13 - hole : 14 + hole, 13 - hole : 14 + hole] = False
    normals = np.zeros((14, 14, 14, 3), np.float32)
    normals[..., axis] = 1.0
    holed = np.moveaxis(holed, 0, axis).astype(np.float32)
    return holed, np.moveaxis(solid, 0, axis).copy(), normals


def _inner(array, margin=6):
    return array[margin:-margin, margin:-margin, margin:-margin]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_close_along_sheet__closes_a_small_hole_and_adds_nothing_else(axis):
    holed, solid, normals = _scene(axis)
    np.testing.assert_array_equal(close_along_sheet(holed, normals, 5, 6), _inner(solid))


def test_close_along_sheet__leaves_a_large_hole_open():
    holed, _, normals = _scene(hole=6)
    out = close_along_sheet(holed, normals, 5, 6)
    assert not out[6, 7, 7]


def test_close_along_sheet__does_not_grow_an_edge_or_fill_between_sheets():
    mask = np.zeros((28, 28, 28), np.float32)
    mask[12:14, :14] = 1
    mask[15:17] = 1
    normals = np.zeros((14, 14, 14, 3), np.float32)
    normals[..., 0] = 1.0
    np.testing.assert_array_equal(close_along_sheet(mask, normals, 5, 6), _inner(mask))


def test_close_along_sheet__nothing_without_a_normal():
    holed, _, normals = _scene()
    out = close_along_sheet(holed, np.zeros_like(normals), 5, 6)
    np.testing.assert_array_equal(out, _inner(holed))


def test_close_along_sheet__oblique_sheet():
    normal = np.array([1.0, 1.0, 0.5]) / 1.5
    grid = np.stack(np.meshgrid(*(np.arange(28),) * 3, indexing="ij"), axis=-1) - 13.5
    solid = np.abs(grid @ normal) < 1.5
    holed = solid & (np.linalg.norm(grid, axis=-1) > 3.0)
    normals = np.broadcast_to(normal.astype(np.float32), (14, 14, 14, 3))
    out = close_along_sheet(holed.astype(np.float32), normals, 6, 8)
    distance = np.abs(_inner(grid, 8) @ normal)
    assert distance[out].max() < 1.6  # half a voxel's diagonal of stair steps would be 2.3
    assert out[_inner(solid, 8)].all()
    assert (_inner(solid & ~holed, 8)).sum() > 50
