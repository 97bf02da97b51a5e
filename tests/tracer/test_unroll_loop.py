import numpy as np
import pytest
from click.testing import CliRunner
from unroll_cases import band_voxels, collection, spiral, theta_of

from tracer.cli.main import tracer
from tracer.distance_field import DistanceField
from tracer.errors import ParamsError
from tracer.seed_params import SeedParams
from tracer.unroll import UnrollParams
from tracer.unroll.joint_pass import optimise_sheet
from tracer.unroll.loop import unroll_and_grow
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter

STEP = 10.0
PARAMS = UnrollParams(step=STEP)


def off_sheet(points):
    return np.linalg.norm(points - spiral(theta_of(points), points[..., 2]), axis=-1)


@pytest.fixture(scope="module")
def prediction(tmp_path_factory):
    path = tmp_path_factory.mktemp("band") / "prediction.zarr"
    block = band_voxels()
    writer = VolumeWriter.create(path, block.shape, np.uint8, 7.91)
    writer.write((0, 0, 0), block)
    writer.finish("max")
    return Volume.open(path)


def piece_of_sheet(off=0.8):
    """Return a grid on the spiral's third wrap, moved outward by turns."""
    theta = 2 * np.pi * 3.2 + np.arange(24) * STEP / 78.0
    z = 30.0 + STEP * np.arange(10)
    points = spiral(*np.broadcast_arrays(theta[None, :], z[:, None]))
    outward = points - np.array([150.0, 150.0, 0.0])
    outward[..., 2] = 0
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    sign = np.where(np.add.outer(np.arange(10), np.arange(24)) % 2 == 0, 1.0, -1.0)
    return points + off * sign[..., None] * outward


def test_optimise_sheet__moves_to_the_middle_what_lies_on_the_sheet_only(prediction):
    points = piece_of_sheet()
    state = np.full(points.shape[:2], 100, np.uint8)
    confidence = np.ones(points.shape[:2], np.float32)
    state[4, 5], confidence[4, 5] = 80, 0.1
    points[0, 0], state[0, 0] = np.nan, 0
    field = DistanceField(prediction)
    moved = optimise_sheet(points, state, confidence, field, STEP, iterations=15)
    free = state == 100
    assert np.median(off_sheet(moved[free])) < 0.5 * np.median(off_sheet(points[free]))
    assert (moved[4, 5] == points[4, 5]).all()
    assert np.isnan(moved[0, 0]).all()
    assert np.linalg.norm(moved - points, axis=-1)[free].max() <= 2.0


def test_optimise_sheet__no_steps_change_nothing(prediction):
    points = piece_of_sheet()
    state = np.full(points.shape[:2], 100, np.uint8)
    field = DistanceField(prediction)
    same = optimise_sheet(
        points, state, np.ones(state.shape, np.float32), field, STEP, iterations=0
    )
    assert (same == points).all()
    assert same is not points


@pytest.mark.slow
def test_unroll_and_grow__fills_holes_with_patches_and_stops(prediction, tmp_path):
    for surface in collection(45, seed=3):
        surface.save(tmp_path / surface.name)
    seed_params = SeedParams.from_mapping(
        {"step_size": 10, "generations": 12, "min_area_cm": 0.001, "rng_seed": 1}
    )
    result, rounds = unroll_and_grow(tmp_path, prediction, PARAMS, seed_params, rounds=1)
    assert len(rounds) == 2
    assert rounds[0].grown == 0
    assert rounds[0].holes > 0
    assert rounds[1].grown > 0
    assert rounds[1].patches == rounds[0].patches + rounds[1].grown
    assert rounds[-1].coverage > rounds[0].coverage
    assert rounds[-1].nodes_data == result.counts()["nodes_data"]
    assert str(rounds[1].grown) in rounds[1].summary()


def test_unroll__grow_needs_a_prediction(tmp_path):
    collection(3)[0].save(tmp_path / "paths" / "a")
    done = CliRunner().invoke(
        tracer, ["unroll", str(tmp_path / "paths"), str(tmp_path / "out"), "--grow", "1"]
    )
    assert isinstance(done.exception, ParamsError)
