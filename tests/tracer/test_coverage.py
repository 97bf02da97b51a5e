import numpy as np
import pytest
from sheet_volume import HALF_THICKNESS, RADII, on_sheet, sheet_offsets

from tracer.coverage import COVERED_WITHIN, CoverageSample
from tracer.spatial_index import SpatialIndex
from tracer.surface import Surface
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter


def piece_of_sheet(number, y_range=(0, 160), z_range=(0, 128), step=4.0):
    ys, zs = (np.arange(low, high, step) for low, high in (y_range, z_range))
    points = np.array([[on_sheet(number, y, z) for y in ys] for z in zs], np.float32)
    points = np.maximum(points, 1e-3)  # z of the first row is 0, which means invalid
    return Surface(points_xyz=points, valid=np.ones(points.shape[:2], bool), scale=(0.25, 0.25))


def fraction_within(sample, surfaces):
    sample.update(SpatialIndex.from_surfaces({f"{i}": s for i, s in enumerate(surfaces)}))
    return sample.fraction


def test_draw__takes_inner_sheet_voxels_with_weights_that_add_up(sheet_volume):
    sample = CoverageSample.draw(sheet_volume, 170, 0)
    assert len(sample.points_xyz) > 300
    assert not sample.covered.any()
    assert sample.weights.sum() == pytest.approx(1.0)
    assert sample.fraction == 0.0
    box = sheet_volume.read(0, (0, 0, 0), sheet_volume.shape_zyx) >= 170
    x, y, z = sample.points_xyz.astype(int).T
    for dx, dy, dz in ((0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1)):
        assert box[z + dz, y + dy, x + dx].all()


def test_draw__is_repeatable_and_depends_on_the_rng_seed(sheet_volume):
    first, again, other = (CoverageSample.draw(sheet_volume, 170, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.points_xyz, again.points_xyz)
    np.testing.assert_array_equal(first.weights, again.weights)
    assert not np.array_equal(first.points_xyz, other.points_xyz)


def test_fraction__agrees_with_counting_every_voxel(sheet_volume):
    box = sheet_volume.read(0, (0, 0, 0), sheet_volume.shape_zyx) >= 170
    points = np.argwhere(box)[:, ::-1]
    nearest = np.abs(sheet_offsets(points))
    inner = nearest.min(axis=1) <= HALF_THICKNESS - 1.0
    share = (nearest[inner].argmin(axis=1) == 1).mean()
    sample = CoverageSample.draw(sheet_volume, 170, 0)
    found = fraction_within(sample, [piece_of_sheet(1)])
    assert found == pytest.approx(share, abs=0.08)
    assert len(RADII) == 3
    whole = fraction_within(sample, [piece_of_sheet(n) for n in range(3)])
    assert 0.93 < whole < 1.0  # the merger is beside the sheets


def test_update__covers_what_lies_within_two_voxels_and_keeps_it(sheet_volume):
    sample = CoverageSample.draw(sheet_volume, 170, 0)
    piece = piece_of_sheet(2, y_range=(40, 120), z_range=(30, 100), step=2.0)
    fraction_within(sample, [piece])
    _, y, z = sample.points_xyz.T
    offset = np.abs(sheet_offsets(sample.points_xyz)[:, 2])
    well_inside = (y > 44) & (y < 112) & (z > 34) & (z < 94)
    assert sample.covered[well_inside & (offset < COVERED_WITHIN - 0.6)].all()
    assert not sample.covered[offset > COVERED_WITHIN + 0.6].any()
    assert not sample.covered[(y < 36) | (y > 122) | (z < 26) | (z > 102)].any()
    before = sample.covered.copy()
    fraction_within(sample, [piece_of_sheet(0, y_range=(0, 60))])
    assert sample.covered[before].all()
    assert sample.covered.sum() > before.sum()


def test_by_region__splits_along_z(sheet_volume):
    sample = CoverageSample.draw(sheet_volume, 170, 0)
    fraction_within(sample, [piece_of_sheet(n, z_range=(0, 70)) for n in range(3)])
    regions = sample.by_region()
    assert list(regions) == ["z 0-31", "z 32-63", "z 64-95", "z 96-127"]
    assert regions["z 0-31"] > 0.95
    assert 0.0 < regions["z 64-95"] < 0.4
    assert regions["z 96-127"] == 0.0


def make_volume(path, voxels):
    writer = VolumeWriter.create(path, voxels.shape, np.uint8, 7.91, chunk=32)
    writer.write((0, 0, 0), voxels)
    return Volume.open(writer.finish("max"))


def test_draw__of_thin_sheets_takes_what_there_is(tmp_path):
    voxels = np.zeros((40, 40, 40), np.uint8)
    voxels[:, 20] = 255
    sample = CoverageSample.draw(make_volume(tmp_path / "v.zarr", voxels), 170, 0)
    assert len(sample.points_xyz) > 100
    assert (sample.points_xyz[:, 1] == 20.0).all()
    assert len(np.unique(sample.points_xyz, axis=0)) == len(sample.points_xyz)


def test_draw__of_nothing_is_empty_and_usable(tmp_path):
    volume = make_volume(tmp_path / "v.zarr", np.zeros((40, 40, 40), np.uint8))
    sample = CoverageSample.draw(volume, 170, 0)
    assert fraction_within(sample, [piece_of_sheet(0)]) == 0.0
    assert sample.by_region() == {}


def test_update__when_everything_is_covered_already(sheet_volume):
    sample = CoverageSample.draw(sheet_volume, 170, 0)
    sample.covered[:] = True
    assert fraction_within(sample, [piece_of_sheet(0)]) == pytest.approx(1.0)
