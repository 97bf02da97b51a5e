import numpy as np
import pytest
from spirals import STEP, spiral

from tracer.cli.main import main
from tracer.errors import SurfaceError
from tracer.flatten import cell_maps, flatten, measure_distortion
from tracer.surface import Surface


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
    assert flat.area_vx2 == pytest.approx(skewed.area_vx2, rel=0.1)


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
