import dataclasses

import numpy as np
import pytest
from spirals import STEP, spiral

from tracer.cli.main import main
from tracer.errors import SurfaceError, TracerWarning
from tracer.flatten import cell_maps, flatten, measure_distortion
from tracer.surface import Surface
from tracer.unroll.isometry import minimise_stretch
from tracer.unroll.patches import Patches


def sheared(by):
    """Return a flat surface whose columns lean."""
    rows, cols = np.indices((8, 9), dtype=np.float64)
    points = np.stack([STEP * (cols + by * rows), STEP * rows, np.full_like(rows, 50.0)], axis=-1)
    return Surface(
        points_xyz=points.astype(np.float32), valid=np.ones((8, 9), bool), scale=(1 / STEP,) * 2
    )


def test_cell_maps__of_a_square_and_of_a_sheared_one():
    singular, shear = cell_maps(sheared(0.0))
    assert np.allclose(singular, 1.0)
    assert np.allclose(shear, 0.0)
    singular, shear = cell_maps(sheared(0.5))
    assert np.allclose(singular.prod(axis=1), 1.0)
    assert np.allclose(shear, np.degrees(np.arctan(0.5)), atol=1e-3)
    expected = np.linalg.svd([[1, 0.5], [0, 1]], compute_uv=False)
    assert np.allclose(singular, expected, atol=1e-6)


def test_measure_distortion__needs_a_cell():
    points = np.full((3, 3, 3), -1.0, np.float32)
    points[0, 0] = 5.0
    valid = np.zeros((3, 3), bool)
    valid[0, 0] = True
    with pytest.raises(SurfaceError, match="no four neighbouring"):
        measure_distortion(Surface(points_xyz=points, valid=valid, scale=(1.0, 1.0)))


def test_flatten__removes_shear_and_stretch():
    surface, _ = spiral(2)
    rows, cols = np.meshgrid(np.arange(14.0), np.arange(surface.shape[1] - 8.0), indexing="ij")
    leaning, valid = surface.sample(rows, cols + 0.4 * rows)
    skewed = Surface(points_xyz=leaning, valid=valid, scale=surface.scale)
    before = measure_distortion(skewed)
    flat = flatten(skewed)
    after = measure_distortion(flat)
    assert before.shear_median_deg > 15
    assert after.shear_median_deg < 1
    assert after.stretch_p95 < 0.05
    assert after.dirichlet < before.dirichlet
    fine = flatten(skewed, step=5.0)  # up to half a cell is lost along every rim
    perimeter = 2 * (14 + surface.shape[1] - 8) * STEP
    assert 0 < skewed.area_vx2 - fine.area_vx2 < perimeter * 5.0


def test_flatten__carries_channels_and_leaves_holes():
    surface, truth = spiral(2, holes=True)
    rows, cols = np.indices(truth.shape)
    given = dataclasses.replace(
        surface,
        channels={
            "confidence": (cols / 100).astype(np.float32),
            "generations": rows.astype(np.uint16),
            "winding": np.zeros(truth.shape, np.float32),
        },
    )
    flat = flatten(given)
    assert set(flat.channels) == {"confidence", "generations", "state", "winding"}
    assert flat.channels["generations"].dtype == np.uint16
    along = np.where(flat.valid, flat.channels["confidence"], np.nan)
    assert np.isfinite(along[flat.valid]).all()
    change = np.diff(along, axis=1)
    assert np.nanmin(np.abs(change)) > 0.005
    assert (change[np.isfinite(change)] > 0).all() or (change[np.isfinite(change)] < 0).all()
    assert np.ptp(flat.channels["winding"][flat.valid]) == pytest.approx(2, abs=0.1)
    filled = flatten(given, fill=True)
    assert filled.valid.sum() > flat.valid.sum()
    new = filled.channels["state"] == 80
    assert np.isnan(filled.channels["confidence"][new]).all()


def test_flatten__tells_what_it_leaves_out():
    surface, _ = spiral(0.8)
    valid = surface.valid.copy()
    valid[:, 9:13] = False
    torn = Surface(points_xyz=surface.points_xyz, valid=valid, scale=surface.scale)
    with pytest.warns(TracerWarning, match="in 1 parts that no wrap connects"):
        flat = flatten(torn)
    assert 0 < flat.area_vx2 < torn.area_vx2


def test_minimise_stretch__leaves_an_isometry_and_mends_a_bend():
    rows, cols = np.indices((9, 14), dtype=np.float64)
    patches = Patches.from_surfaces(
        [
            Surface(
                points_xyz=np.stack([STEP * cols, STEP * rows, 0 * rows + 50], -1).astype(
                    np.float32
                ),
                valid=np.ones(rows.shape, bool),
                scale=(1 / STEP,) * 2,
            )
        ]
    )
    true = patches.points_xyz[:, :2].astype(np.float64)
    assert np.allclose(minimise_stretch(patches, patches.quads, true), true, atol=1e-6)
    bent = true + 12 * np.sin(true[:, ::-1] / 60) + 4 * np.sin(true / 45)
    found = minimise_stretch(patches, patches.quads, bent)
    lengths = np.linalg.norm(np.diff(found[patches.edges], axis=1)[:, 0], axis=1)
    before = np.linalg.norm(np.diff(bent[patches.edges], axis=1)[:, 0], axis=1)
    assert np.abs(before / STEP - 1).max() > 0.1
    assert np.abs(lengths / STEP - 1).max() < 0.01
    mirrored = true * [1, -1]
    assert np.allclose(minimise_stretch(patches, patches.quads, mirrored), mirrored, atol=1e-6)


def test_minimise_stretch__on_every_few_nodes_of_a_fine_grid(monkeypatch):
    monkeypatch.setattr("tracer.unroll.isometry._MOST_CELLS", 300)
    rows, cols = np.indices((40, 60), dtype=np.float64)
    points = np.stack([STEP * cols, STEP * rows, 0 * rows + 50], -1).astype(np.float32)
    flat = Surface(points_xyz=points, valid=np.ones(rows.shape, bool), scale=(1 / STEP,) * 2)
    patches = Patches.from_surfaces([flat])
    true = patches.points_xyz[:, :2].astype(np.float64)
    bent = true + 30 * np.sin(true / 300)
    before = np.linalg.norm(np.diff(bent[patches.edges], axis=1)[:, 0], axis=1) / STEP
    found = minimise_stretch(patches, patches.quads, bent)
    lengths = np.linalg.norm(np.diff(found[patches.edges], axis=1)[:, 0], axis=1) / STEP
    assert np.percentile(np.abs(before - 1), 95) > 0.09
    assert np.percentile(np.abs(lengths - 1), 95) < 0.01


def test_flatten_command__writes_and_measures(tmp_path, capsys):
    path = spiral(1.5)[0].save(tmp_path / "trace")
    for arguments in (["--measure"], [str(tmp_path / "flat"), "--step", "10", "--fill"]):
        with pytest.raises(SystemExit) as stopped:
            main(["flatten", str(path), *arguments])
        assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert "before: stretch" in printed
    assert "after:  stretch" in printed
    flat = Surface.load(tmp_path / "flat")
    assert flat.step == pytest.approx(10.0)
    assert set(flat.channels) == {"state", "winding"}
