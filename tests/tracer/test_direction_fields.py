"""Volumes of directions: how they are read, and patches that follow them."""

import json

import numpy as np
import pytest
from sheet_volume import AXIS_XY, SHAPE_ZYX, on_sheet, sheet_of, small_params
from zarr_making import make_array

from tracer.direction_volume import DirectionGuides, DirectionVolume, open_guides
from tracer.distance_field import DistanceField
from tracer.errors import VolumeError
from tracer.joint_optimisation import JointWeights, optimise_patch
from tracer.kernels.axis_guides import HORIZONTAL, NORMAL, VERTICAL, AxisGuides
from tracer.kernels.field_sampling import FAR, FieldView
from tracer.patch_growth import grow_patch
from tracer.seed import seed

ANGLE = np.radians(20.0)
SCALE = 4
POINT = on_sheet(1, 80, 64)


def write_field(path, vectors, *, signs=True, **options):
    """Write vectors (z, y, x, 3), each turned to a random side, as a direction field."""
    rng = np.random.default_rng(3)
    side = np.where(rng.random(vectors.shape[:3]) < 0.5, -1.0, 1.0) if signs else 1.0
    codes = np.round(vectors * np.asarray(side)[..., None] * 127.0 + 128.0).astype(np.uint8)
    for number, name in enumerate("xyz"):
        make_array(path / name, np.ascontiguousarray(codes[..., number]), **options)
    (path / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
    return str(path)


def directions(points_xyz, kind):
    """Return what fibres that climb by ANGLE around the scroll's axis look like."""
    x, y, _ = np.moveaxis(np.asarray(points_xyz, float), -1, 0)
    radius = np.hypot(x - AXIS_XY[0], y - AXIS_XY[1])
    zero = np.zeros_like(radius)
    out = np.stack([(x - AXIS_XY[0]) / radius, (y - AXIS_XY[1]) / radius, zero], axis=-1)
    around = np.stack([-out[..., 1], out[..., 0], zero], axis=-1)
    up = np.stack([zero, zero, zero + 1.0], axis=-1)
    return {
        "horizontal": np.cos(ANGLE) * around + np.sin(ANGLE) * up,
        "vertical": np.cos(ANGLE) * up - np.sin(ANGLE) * around,
        "normal": out,
    }[kind]


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    """Paths of the three kinds of direction fields over the sheet volume."""
    folder = tmp_path_factory.mktemp("directions")
    zyx = np.indices([n // SCALE for n in SHAPE_ZYX])
    points = np.moveaxis(zyx[::-1], 0, -1) * SCALE + 0.5 * (SCALE - 1)
    kinds = ("horizontal", "vertical", "normal")
    return {k: write_field(folder / f"{k}.zarr", directions(points, k)) for k in kinds}


def guided_params(fields, kind, weight=1.0, **changes):
    entry = {"zarr": fields[kind], "dir": kind, "scale": SCALE, "weight": weight}
    return small_params(direction_fields=[entry], **changes)


def degrees_off(patch, kind):
    """Return the angles between the edges of a patch and the fibres."""
    axis = 1 if kind == "horizontal" else 0
    points, placed = patch.points_xyz, patch.state > 0
    both = placed[:, 1:] & placed[:, :-1] if axis else placed[1:] & placed[:-1]
    edges = np.diff(points, axis=axis)[both]
    first = (points[:, :-1] if axis else points[:-1])[both]
    cos = (edges * directions(first, kind)).sum(axis=-1) / np.linalg.norm(edges, axis=-1)
    return np.degrees(np.arccos(np.clip(np.abs(cos), 0.0, 1.0)))


# reading


def test_direction_volume__gives_unit_axes_whatever_their_stored_side(fields):
    rng = np.random.default_rng(1)
    points = rng.uniform(8.0, 110.0, size=(200, 3))
    for kind, path in fields.items():
        found = DirectionVolume(path, SCALE).sample(points)
        assert found.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1.0, atol=1e-6)
        cos = np.abs((found * directions(points, kind)).sum(axis=-1))
        assert cos.min() > np.cos(np.radians(1.0))


@pytest.mark.parametrize("scale", [1, 3])
def test_direction_volume__blends_like_a_naive_trilinear_lookup(tmp_path, scale):
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(37, 35, 40, 3)) * 0.07 + [0.5, 0.2, -0.3]
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    volume = DirectionVolume(write_field(tmp_path / "f.zarr", vectors, signs=False), scale)
    points = rng.uniform(0.0, 34.0 * scale - 1.0, size=(60, 3))
    stored = (np.round(vectors * 127.0 + 128.0) - 128.0) / 127.0
    for point, found in zip(points, volume.sample(points), strict=True):
        at = ((point - 0.5 * (scale - 1)) / scale)[::-1]
        if (at < 0.0).any():
            continue
        low = np.floor(at).astype(int)
        total = np.zeros(3)
        for corner in np.ndindex(2, 2, 2):
            share = np.prod([f if c else 1.0 - f for c, f in zip(corner, at - low, strict=True)])
            total += share * stored[tuple(low + corner)]
        np.testing.assert_allclose(found, total / np.linalg.norm(total), atol=1e-5)


def test_direction_volume__knows_nothing_where_nothing_is_stored_or_beyond(tmp_path):
    vectors = np.broadcast_to([0.0, 1.0, 0.0], (24, 24, 24, 3)).copy()
    path = write_field(tmp_path / "f.zarr", vectors, signs=False, chunk=8)
    for name in "xyz":
        (tmp_path / "f.zarr" / name / "1" / "1" / "1").unlink()  # voxels 8 to 15
    volume = DirectionVolume(path)
    points = np.array([[4.0, 4.0, 4.0], [12.0, 12.0, 12.0], [99.0, 4.0, 4.0], [-9.0, -9.0, -9.0]])
    found = volume.sample(points)
    np.testing.assert_allclose(np.abs(found[0]), [0.0, 1.0, 0.0], atol=1e-2)
    np.testing.assert_array_equal(found[1:], 0.0)
    assert volume.sample(np.zeros((0, 3))).shape == (0, 3)


def test_direction_volume__opposite_neighbours_do_not_cancel(tmp_path):
    vectors = np.broadcast_to([0.6, 0.0, 0.8], (4, 4, 4, 3)).copy()
    vectors[..., ::2, :] *= -1.0
    volume = DirectionVolume(write_field(tmp_path / "f.zarr", vectors, signs=False))
    (found,) = volume.sample(np.array([[1.5, 1.5, 1.5]]))
    assert abs(found @ [0.6, 0.0, 0.8]) == pytest.approx(1.0, abs=1e-3)


def test_direction_volume__refuses_what_is_no_direction_field(fields, tmp_path, sheet_volume):
    with pytest.raises(VolumeError, match="no array 'x'; a direction field is a group"):
        DirectionVolume(str(tmp_path / "none.zarr"))
    voxels = np.zeros((4, 4, 4), np.uint16)
    make_array(tmp_path / "wide.zarr" / "x", voxels)
    with pytest.raises(VolumeError, match=r"wide\.zarr/x: 3 axes of uint16"):
        DirectionVolume(str(tmp_path / "wide.zarr"))
    for name, size in (("x", 4), ("y", 5)):
        make_array(tmp_path / "odd.zarr" / name, np.zeros((4, 4, size), np.uint8))
    with pytest.raises(VolumeError, match=r"odd\.zarr/y: shape \(4, 4, 5\) differs"):
        DirectionVolume(str(tmp_path / "odd.zarr"))
    params = guided_params({"normal": str(tmp_path / "none.zarr")}, "normal")
    with pytest.raises(VolumeError, match="no array 'x'") as caught:
        seed(sheet_volume, tmp_path / "paths", params, points=[POINT])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "paths").exists()


def test_open_guides__opens_the_fields_of_the_params_once(fields):
    params = guided_params(fields, "vertical", weight=0.5)
    guides = open_guides(params.direction_fields)
    assert isinstance(guides, DirectionGuides)
    assert open_guides(params.direction_fields) is guides
    np.testing.assert_array_equal(guides.kinds, [VERTICAL])
    np.testing.assert_array_equal(guides.weights, [0.5])
    assert guides.axis_at(HORIZONTAL, np.array(POINT)) is None
    assert guides.axis_at(VERTICAL, np.array([-99.0, 0.0, 0.0])) is None
    assert open_guides(()) is None


# growing


@pytest.fixture(scope="module")
def field(sheet_volume):
    return DistanceField(sheet_volume)


@pytest.mark.parametrize("kind", ["horizontal", "vertical"])
@pytest.mark.parametrize("joint_iterations", [0, 10])
def test_grow_patch__follows_the_fibres(field, fields, kind, joint_iterations):
    extra = {"generations": 8, "joint_iterations": joint_iterations}
    plain = grow_patch(field, np.array(POINT), small_params(**extra))
    guided = grow_patch(field, np.array(POINT), guided_params(fields, kind, **extra))
    assert np.median(degrees_off(plain, kind)) > 15.0
    # the residual is flat around its minimum, so the edges keep some of their play
    assert np.median(degrees_off(guided, kind)) < 7.0
    assert np.percentile(degrees_off(guided, kind), 95) < np.median(degrees_off(plain, kind))
    assert (guided.state > 0).sum() > 0.8 * (plain.state > 0).sum()


def test_grow_patch__turns_towards_fibres_that_it_did_not_start_along(field, fields, monkeypatch):
    monkeypatch.setattr(DirectionGuides, "axis_at", lambda *_: None)
    far = [
        degrees_off(grow_patch(field, np.array(POINT), p), "horizontal")
        for p in (
            guided_params(fields, "horizontal", weight=0.0, generations=10),
            guided_params(fields, "horizontal", weight=3.0, generations=10),
        )
    ]
    assert np.median(far[1]) < 0.7 * np.median(far[0])


@pytest.mark.parametrize("kind", ["horizontal", "normal"])
def test_grow_patch__with_weight_zero_it_is_the_plain_patch(field, fields, kind):
    plain = grow_patch(field, np.array(POINT), small_params())
    guided = grow_patch(field, np.array(POINT), guided_params(fields, kind, weight=0.0))
    np.testing.assert_array_equal(guided.points_xyz, plain.points_xyz)
    np.testing.assert_array_equal(guided.generations, plain.generations)
    assert guided.rejections == plain.rejections


def test_seed__a_guided_patch_stays_on_its_sheet(sheet_volume, fields, tmp_path):
    from tracer.surface import Surface

    params = guided_params(fields, "normal", weight=2.0)
    (name,) = seed(sheet_volume, tmp_path / "paths", params, points=[POINT]).names
    surface = Surface.load(tmp_path / "paths" / name)
    assert sheet_of(surface) == 1
    (entry,) = surface.meta["vc_gsfs_params"]["direction_fields"]
    assert entry == {"zarr": fields["normal"], "dir": "normal", "scale": SCALE, "weight": 2.0}


# the joint optimisation

NO_DATA = JointWeights(data=0.0, edge_data=0.0)


def far_from_everything():
    """Return a field without any data."""
    table = np.full((1, 1, 1), FAR, np.int32)
    return FieldView(np.zeros((1, 2, 2, 2), np.uint8), table, np.array([128] * 3), 8.0)


@pytest.mark.jit_only
@pytest.mark.parametrize("kind", [HORIZONTAL, VERTICAL, NORMAL])
def test_optimise_patch__turns_a_flat_patch_to_its_axes(kind):
    rows, cols = np.mgrid[0:6, 0:7]
    points = np.stack([20.0 + 10.0 * cols, 20.0 + 10.0 * rows, np.full(rows.shape, 60.0)], -1)
    angle = np.radians(12.0)
    axis = {
        HORIZONTAL: [np.cos(angle), np.sin(angle), 0.0],
        VERTICAL: [np.sin(angle), np.cos(angle), 0.0],
        NORMAL: [np.sin(angle), 0.0, np.cos(angle)],
    }[kind]
    axes = np.broadcast_to(np.float32(axis), (6, 7, 1, 3)).copy()
    axes[::2, ::2] = 0.0  # known at three of four vertices: the edges between find one
    guides = AxisGuides(axes, np.array([kind]), np.array([1.0]))
    valid = np.ones((6, 7), bool)
    valid[0, 0] = valid[3, 3] = False
    options = {"weights": NO_DATA, "guides": guides, "iterations": 60}
    moved, report = optimise_patch(points, valid, far_from_everything(), 10.0, **options)
    assert report.initial_cost > 10.0 * report.final_cost
    u, v = moved[1:-1, 5] - moved[1:-1, 4], moved[2:, 5] - moved[1:-1, 5]
    vector = {HORIZONTAL: u, VERTICAL: v, NORMAL: np.cross(u, v)}[kind]
    cos = np.abs(vector @ axis) / np.linalg.norm(vector, axis=-1)
    assert np.degrees(np.arccos(cos.min())) < 6.0
    np.testing.assert_array_equal(moved[~valid], points[~valid])


@pytest.mark.jit_only
def test_optimise_patch__guides_leave_fixed_vertices_alone():
    rows, cols = np.mgrid[0:6, 0:7]
    points = np.stack([20.0 + 10.0 * cols, 20.0 + 10.0 * rows, np.full(rows.shape, 60.0)], -1)
    axes = np.broadcast_to(np.float32([0.8, 0.6, 0.0]), (6, 7, 1, 3)).copy()
    guides = AxisGuides(axes, np.array([HORIZONTAL]), np.array([1.0]))
    fixed = np.zeros((6, 7), bool)
    fixed[:, :5] = True  # an edge between two fixed vertices has a residual, but no say
    options = {"weights": NO_DATA, "guides": guides, "fixed": fixed}
    valid = np.ones((6, 7), bool)
    moved, _ = optimise_patch(points, valid, far_from_everything(), 10.0, **options)
    np.testing.assert_array_equal(moved[fixed], points[fixed])
    assert (moved[~fixed] != points[~fixed]).any(axis=-1).all()
