import numpy as np
import pytest
from array_volume import ArrayVolume

from tracer.unroll.data_pass import pull_to_prediction
from tracer.unroll.sheet import Sheet

SETTINGS = {"threshold": 1, "reach": 6.0}


@pytest.fixture
def volume():
    """A band of thickness 5 whose middle is y = 40."""
    band = np.zeros((140, 80, 140), np.uint8)
    band[:, 38:43] = 255
    return ArrayVolume(band)


def level(y, shape=(12, 12)):
    z, x = np.meshgrid(*(np.arange(n) * 10.0 + 15 for n in shape), indexing="ij")
    nothing = np.zeros(0, np.int64)
    return Sheet(
        points_xyz=np.stack([x, np.full(shape, y), z], axis=-1),
        winding=x / 1000,
        confidence=np.ones(shape, np.float32),
        agreeing=np.ones(shape, np.float32),
        origin_uv=(0.0, 0.0),
        step=10.0,
        outliers=nothing,
        samples=nothing,
    )


def test_pull_to_prediction__moves_to_the_middle(volume):
    sheet = level(37.5)
    moved, state = pull_to_prediction(sheet, np.full((12, 12), 100, np.uint8), volume, **SETTINGS)
    np.testing.assert_allclose(moved.points_xyz[..., 1], 40.0, atol=0.1)
    assert (state == 100).all()


def test_pull_to_prediction__drops_only_what_finds_no_prediction(volume):
    beyond = np.zeros((12, 12), bool)
    beyond[:, 9:] = True
    state = np.where(beyond, 80, 100).astype(np.uint8)
    volume.array[:, :, 90:] = 0
    moved, after = pull_to_prediction(level(41.0), state, volume, extrapolated=beyond, **SETTINGS)
    assert (after[:, :9] == 100).all()
    assert (after[:, 9:] == 0).all()
    assert np.isnan(moved.points_xyz[:, 9:]).all()
    np.testing.assert_array_equal(moved.points_xyz[:, :9, 1], 41.0)


@pytest.mark.parametrize("shape", [(12, 12), (1, 5)])
def test_pull_to_prediction__where_nothing_is_asked_nothing_changes(volume, shape):
    nobody = np.zeros(shape, bool)
    state = np.full(shape, 100, np.uint8)
    sheet = level(41.0, shape)
    moved, after = pull_to_prediction(sheet, state, volume, extrapolated=nobody, **SETTINGS)
    np.testing.assert_array_equal(moved.points_xyz, sheet.points_xyz)
    np.testing.assert_array_equal(after, state)
