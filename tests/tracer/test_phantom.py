import json
from dataclasses import replace

import numpy as np
import pytest
from naive import phantom as naive

from tracer.errors import FormatError, OutputError, ParamsError, SurfaceError
from tracer.phantom import PhantomParams, Truth, make_phantom, measure_legibility
from tracer.phantom.deformation import Crush, Swirl, Waves, stage_from_json
from tracer.phantom.ink import draw_ink
from tracer.phantom.levels import local_spacing, plan_phantom
from tracer.phantom.voxels import render_box
from tracer.surface import Surface
from tracer.tif import write_tif
from tracer.volume import Volume

LEVELS = ("easy", "normal", "hard")


def plan(level, size=(160, 192, 192), rng_seed=0, text="HI"):
    params = PhantomParams(size_zyx=size, level=level, rng_seed=rng_seed, text=text)
    truth = plan_phantom(params)
    return truth, draw_ink(text, truth.ink_shape(), params.letters(100.0))


def plain_truth():
    return Truth(
        centre_xy=(100.0, 90.0),
        pitch=20.0,
        rmin=30.0,
        rmax=80.0,
        size_zyx=(60, 180, 200),
        z_range=(10.0, 50.0),
    )


def test_truth__of_a_plain_spiral_is_analytic():
    truth = plain_truth()
    theta = np.linspace(10.0, 25.0, 400)
    r = truth.pitch * theta / (2 * np.pi)
    points = np.stack([100 + r * np.cos(theta), 90 + r * np.sin(theta), np.full(400, 20.0)], 1)
    np.testing.assert_allclose(truth.theta(points), theta, atol=1e-9)
    np.testing.assert_allclose(truth.winding(points), np.floor(theta / 2 / np.pi), atol=1e-9)
    np.testing.assert_allclose(truth.arc_length(points), 20 * theta**2 / (4 * np.pi), atol=1e-6)
    np.testing.assert_allclose(truth.distance(points), 0.0, atol=1e-9)
    np.testing.assert_allclose(truth.point(theta, 20.0), points, atol=1e-9)
    assert (truth.inside(points) == ((r > 30) & (r < 80))).all()
    outward = points + 2.0 * truth.normal(points)
    np.testing.assert_allclose(truth.distance(outward, signed=True), 2.0, atol=0.01)
    assert not truth.inside(points + np.array([0, 0, 40])).any()


@pytest.mark.parametrize("level", LEVELS)
def test_truth__recto_grid_lies_on_the_recto(level):
    truth, _ = plan(level)
    points, valid, theta, z = truth.recto_grid(6.0)
    assert points.shape == (len(z), len(theta), 3)
    located = truth.locate(points)
    np.testing.assert_allclose(located.winding, located.wrap, atol=1e-6)
    # At angle zero the two ends of a turn are the same place.
    apart = np.abs(located.theta - theta[None, :])
    assert (np.minimum(apart, np.abs(apart - 2 * np.pi)) < 1e-6).all()
    np.testing.assert_allclose(located.material_z, np.broadcast_to(z[:, None], apart.shape))
    inside = points[valid]
    assert (inside[:, 2] >= truth.z_range[0]).all()
    assert (inside[:, 2] < truth.z_range[1]).all()


@pytest.mark.parametrize("level", LEVELS)
def test_truth__distance_is_that_of_the_nearest_sample(level):
    from scipy.spatial import cKDTree

    truth, _ = plan(level, size=(96, 192, 192))
    dense, valid, _, _ = truth.recto_grid(0.7)
    rng = np.random.default_rng(0)
    picked = dense[valid][rng.integers(valid.sum(), size=300)]
    picked = picked[np.abs(picked[:, 2] - 48.0) < 30.0]
    points = picked + truth.normal(picked) * rng.uniform(-3.0, 3.0, (len(picked), 1))
    found = truth.distance(points)
    nearest, _ = cKDTree(dense.reshape(-1, 3)).query(points)
    error = np.abs(found - nearest)
    assert np.median(error) < 0.1
    assert np.percentile(error, 95) < 0.5


def test_truth__round_trip(tmp_path):
    truth, _ = plan("hard")
    (tmp_path / "truth.json").write_text(json.dumps(truth.to_json()))
    loaded = Truth.load(tmp_path)
    assert loaded.to_json() == truth.to_json()
    assert loaded.recipe == truth.recipe
    points = np.random.default_rng(0).uniform(0, 160, (500, 3))
    assert (loaded.winding(points) == truth.winding(points)).all()


def test_truth__loads_a_foreign_file_with_one_set_of_waves(shared_data):
    file = shared_data / "vc3d" / "truth.json"
    truth = Truth.load(file)
    raw = json.loads(file.read_text())
    points = np.random.default_rng(0).uniform(100, 500, (300, 3))
    material = naive.invert_waves(points, raw["K"], raw["A"], raw["PH"], steps=200)
    expected = naive.winding(material, (raw["cx"], raw["cy"]), raw["pitch"])
    np.testing.assert_allclose(truth.winding(points), expected, atol=1e-9)
    assert truth.z_range == (32.0, 480.0)
    volume = Volume.open(shared_data / "vc3d" / "volume" / "pred.zarr")
    block = volume.read(0, (250, 0, 0), (254, 640, 640))
    positive = np.argwhere(block)[:, ::-1] + [0, 0, 250]
    assert (truth.distance(positive) < 2.8).mean() > 0.8


def test_truth__refuses_what_is_not_a_truth(tmp_path):
    with pytest.raises(FormatError, match="cannot read"):
        Truth.load(tmp_path)
    file = tmp_path / "truth.json"
    file.write_text("[1]")
    with pytest.raises(FormatError, match="not a phantom"):
        Truth.load(file)
    file.write_text('{"size": [1, 2, 3]}')
    with pytest.raises(FormatError, match=r"'K'|'stages'"):
        Truth.load(file)
    value = plain_truth().to_json()
    file.write_text(json.dumps({**value, "stages": [{"kind": "origami"}]}))
    with pytest.raises(FormatError, match="origami"):
        Truth.load(file)
    file.write_text(json.dumps({**value, "pitch": -1.0}))
    with pytest.raises(FormatError, match="pitch"):
        Truth.load(file)
    with pytest.raises(FormatError, match=r"ink\.tif"):
        plain_truth().ink_image()


def test_stages__refuse_what_cannot_be_inverted():
    with pytest.raises(FormatError, match="below 1"):
        Waves(wave_vectors=((0.1, 0, 0),), amplitudes=((10.0, 0, 0),), phases=(0.0,))
    with pytest.raises(FormatError, match="as many"):
        Waves(wave_vectors=((0.1, 0, 0),), amplitudes=(), phases=(0.0,))
    with pytest.raises(FormatError, match="positive"):
        Crush(centre=(0.0, 0.0, 0.0), scales=(1.0, 0.0), angle=0.0)
    with pytest.raises(FormatError, match="positive"):
        Swirl(centre=(0.0, 0.0, 0.0), radius=0.0, half_height=1.0, angle=0.0)


@pytest.mark.parametrize("level", LEVELS)
def test_stages__round_trip(level):
    for stage in plan(level)[0].stages:
        assert stage_from_json(json.loads(json.dumps(stage.to_json()))) == stage


@pytest.mark.parametrize("rng_seed", range(4))
def test_plan_phantom__hard_is_as_crushed_as_real_scrolls(rng_seed):
    truth, _ = plan("hard", (512, 512, 512), rng_seed)
    spacing = local_spacing(truth)
    assert np.median(spacing) == pytest.approx(12.8, abs=0.4)
    low, high = np.percentile(spacing, [2, 98])
    assert 7.0 < low < 10.5
    assert 19.0 < high < 33.0
    assert (truth.rmax - truth.rmin) / truth.pitch > 4.0


@pytest.mark.parametrize("rng_seed", range(4))
def test_plan_phantom__normal_has_a_pitch_of_20_to_30(rng_seed):
    truth, _ = plan("normal", (512, 512, 512), rng_seed)
    low, high = np.percentile(local_spacing(truth), [2, 98])
    assert low > 18.5
    assert high < 31.0


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", [(160, 192, 192), (128, 256, 160)])
def test_plan_phantom__fits_the_scroll_into_the_volume(level, size):
    truth, _ = plan(level, size)
    points, valid, _, _ = truth.recto_grid(8.0)
    inside = points[valid]
    assert (inside >= 0).all()
    assert (inside < size[::-1]).all()
    assert valid.mean() > 0.5


@pytest.mark.parametrize("level", LEVELS)
def test_render_box__does_not_depend_on_the_boxes(level):
    truth, ink = plan(level)
    whole = render_box(truth, ink, (60, 50, 30), (100, 90, 81))
    for split in (61, 64, 77):
        low = render_box(truth, ink, (60, 50, 30), (split, 90, 81))
        high = render_box(truth, ink, (split, 50, 30), (100, 90, 81))
        for one, a, b in zip(whole, low, high, strict=True):
            assert (np.concatenate([a, b]) == one).all()
    part = render_box(truth, ink, (66, 61, 43), (79, 83, 74))
    for one, inner in zip(whole, part, strict=True):
        assert (one[6:19, 11:33, 13:44] == inner).all()


def test_render_box__easy_prediction_is_the_band_about_the_recto():
    truth, ink = plan("easy")
    _, prediction = render_box(truth, ink, (60, 0, 0), (70, 192, 192))
    assert set(np.unique(prediction)) == {0, 255}
    grid = np.moveaxis(np.indices(prediction.shape), 0, -1)[..., ::-1] + [0, 0, 60]
    located = truth.locate(grid.astype(float))
    distance = np.abs(located.distance())
    first, last = truth.theta_range
    on_sheet = (located.theta > first + 0.1) & (located.theta < last - 0.1)
    assert (prediction[on_sheet & (distance < 1.8)] == 255).all()
    assert (prediction[distance > 2.2] == 0).all()


@pytest.mark.parametrize("level", ["normal", "hard"])
def test_render_box__papyrus_is_brighter_than_air_and_ink_brighter_still(level):
    truth, ink = plan(level, text="III")
    truth = replace(truth, recipe=truth.recipe._replace(case=0.0, layers=0.0))
    ct, _ = render_box(truth, ink, (40, 0, 0), (120, 192, 192))
    points, valid, theta, z = truth.recto_grid(2.0)
    valid = valid & (np.abs(points[..., 2] - 80) < 35)
    arc = truth.arc_of_theta(theta)[None, :]
    row = np.rint(z[:, None] - truth.recipe.ink_z).astype(int)
    col = np.rint(arc - truth.recipe.ink_arc).astype(int)
    row, col = np.broadcast_arrays(row, col)
    inked = ink[np.clip(row, 0, ink.shape[0] - 1), np.clip(col, 0, ink.shape[1] - 1)] / 255.0

    def mean_at(offset, chosen):
        places = points[chosen] + offset * truth.normal(points[chosen])
        x, y, z = np.rint(places).astype(int).T
        return ct[z - 40, y, x].mean()

    bare, written = valid & (inked == 0), valid & (inked == 1)
    assert bare.sum() > 500
    assert written.sum() > 500
    assert mean_at(4.0, bare) - mean_at(-3.0, bare) > 25
    assert mean_at(-0.5, written) - mean_at(-0.5, bare) > 25


def test_render_box__hard_tears_out_what_truth_says():
    truth, ink = plan("hard")
    truth = replace(truth, recipe=truth.recipe._replace(tears=1.0, seed=4))
    points, valid, theta, z = truth.recto_grid(3.0)
    exists = truth.exists(truth.arc_of_theta(theta)[None, :], z[:, None])
    assert 0.3 < exists.mean() < 0.9
    assert not valid[~exists].any()
    bare = replace(
        truth,
        recipe=truth.recipe._replace(
            case=0.0, merges=0.0, bridges=0.0, blobs=0.0, layers=0.0, holes=0.0
        ),
    )
    _, prediction = render_box(bare, ink, (20, 0, 0), (140, 192, 192))
    near = np.abs(points[..., 2] - 80) < 55
    x, y, z_ = np.rint(points).astype(int).clip(0, 191).transpose(2, 0, 1)
    hit = prediction[(z_ - 20).clip(0, 119), y, x] > 0
    assert hit[near & ~exists].mean() < 0.1
    assert hit[near & exists].mean() > 0.75


def test_draw_ink__writes_over_the_whole_sheet():
    image = draw_ink("AB", (200, 3000), 40.0)
    assert image.shape == (200, 3000)
    assert set(np.unique(image)) >= {0, 255}
    assert 0.1 < (image > 127).mean() < 0.5
    assert all((part > 127).any() for part in np.array_split(image, 8, axis=1))
    assert (image == draw_ink("AB", (200, 3000), 40.0)).all()
    assert not draw_ink("  ", (50, 60), 40.0).any()
    assert draw_ink("AB", (20, 60), 40.0).shape == (20, 60)


def test_draw_ink__refuses_letters_that_the_font_lacks():
    with pytest.raises(ParamsError, match="Λ"):
        draw_ink("HΛ", (50, 60), 30.0)


def test_params__refuse_a_volume_that_holds_no_scroll():
    with pytest.raises(ParamsError, match="at least 96"):
        PhantomParams.from_mapping({"size_zyx": (95, 200, 200)})


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom") / "scroll"
    params = PhantomParams(size_zyx=(130, 140, 136), rng_seed=5, text="OX", letter_height=40)
    return make_phantom(folder, params), params


def test_make_phantom__writes_two_volumes_truth_and_ink(small):
    result, params = small
    folder = result.directory
    for name in ("ct", "prediction"):
        volume = Volume.open(folder / f"{name}.zarr")
        assert volume.shape_zyx == params.size_zyx
        assert volume.voxel_size_um == params.voxel_size_um
        assert volume.n_levels > 1
    truth = Truth.load(folder)
    assert truth.to_json() == result.truth.to_json()
    written = json.loads((folder / "truth.json").read_text())
    assert written["params"] == params.effective()
    assert truth.ink_image().shape == truth.ink_shape()
    arc, z = truth.recipe.ink_arc, truth.recipe.ink_z
    assert truth.ink(arc + 7, z + 50) == truth.ink_image()[50, 7] / 255
    assert truth.ink(arc - 5, z) == 0.0
    assert not list(folder.glob(".*"))
    assert "wraps" in result.summary()


def test_make_phantom__is_deterministic_and_equals_render_box(small, tmp_path):
    result, params = small
    again = make_phantom(tmp_path / "again", params)
    assert again.truth.to_json() == result.truth.to_json()
    stop = params.size_zyx
    ct, prediction = render_box(result.truth, result.truth.ink_image().copy(), (0, 0, 0), stop)
    for phantom in (result, again):
        for name, expected in (("ct", ct), ("prediction", prediction)):
            volume = Volume.open(phantom.directory / f"{name}.zarr")
            assert (volume.read(0, (0, 0, 0), stop) == expected).all()
    assert result.positive == pytest.approx((prediction > 0).mean())


def test_make_phantom__depends_on_the_seed(small, tmp_path):
    result, params = small
    other = make_phantom(tmp_path / "other", params.model_copy(update={"rng_seed": 6}))
    assert other.truth.stages != result.truth.stages


def test_make_phantom__overwrites_nothing_but_what_a_killed_run_left(tmp_path):
    params = PhantomParams(size_zyx=(96, 96, 96), level="easy", text="")
    (tmp_path / "ct.zarr").mkdir()
    with pytest.raises(OutputError, match=r"ct\.zarr"):
        make_phantom(tmp_path, params)
    (tmp_path / ".phantom-unfinished").touch()
    result = make_phantom(tmp_path, params)
    assert not result.truth.ink_image().any()
    with pytest.raises(OutputError, match="exists already"):
        make_phantom(tmp_path, params)


@pytest.mark.slow
def test_make_phantom__hard_prediction_is_wrong_in_the_way_real_ones_are(tmp_path):
    params = PhantomParams(size_zyx=(192, 256, 256), level="hard", rng_seed=1)
    result = make_phantom(tmp_path / "hard", params)
    assert 0.06 < result.wrong < 0.45
    assert 0.02 < result.positive < 0.15


def test_measure_legibility__of_a_perfect_render_is_one(small):
    truth = small[0].truth
    surface = truth.recto_surface(2.0)
    rows, cols = surface.shape
    fine = truth.recto_surface(2.0).sample(
        np.arange(2 * rows - 1)[:, None] / 2, np.arange(2 * cols - 1)[None, :] / 2
    )
    located = truth.locate(np.where(fine[1][..., None], fine[0], np.nan))
    image = np.nan_to_num(truth.ink(truth.arc_of_theta(located.theta), located.material_z))
    found = measure_legibility(image, surface, truth)
    assert found.correlation > 0.99
    assert found.coverage > 0.8
    assert found.whole_correlation > 0.8
    noise = np.random.default_rng(0).random(image.shape)
    assert abs(measure_legibility(noise, surface, truth).correlation) < 0.05


@pytest.mark.parametrize("wraps", [0, 1])
def test_measure_legibility__falls_where_a_surface_switches(tmp_path, wraps):
    truth, ink = plan("easy", (128, 320, 320), text="PHILODEMUS")
    write_tif(tmp_path / "ink.tif", ink)
    truth = replace(truth, source=tmp_path / "truth.json")
    _, _, theta, z = truth.recto_grid(2.0)
    theta = theta[theta < truth.theta_range[1] - 2 * np.pi]
    # Part of the surface lies one wrap further out, after a step of 2 pi.
    shifted = theta + np.where(np.arange(len(theta)) > 0.6 * len(theta), 2 * np.pi * wraps, 0.0)
    points = truth.point(shifted[None, :], z[:, None])
    located = truth.locate(points)
    valid = truth.is_inside(points, located)
    image = np.where(valid, truth.ink(truth.arc_of_theta(located.theta), located.material_z), 0.0)
    surface = Surface(points_xyz=points, valid=valid, scale=(0.5, 0.5))
    found = measure_legibility(image, surface, truth, pixels_per_voxel=0.5)
    if wraps:
        assert found.correlation < 0.8
    else:
        assert found.correlation > 0.99


def test_measure_legibility__refuses_an_image_of_nothing(small):
    truth = small[0].truth
    surface = Surface(points_xyz=np.ones((4, 4, 3)), valid=np.zeros((4, 4), bool), scale=(0.5, 0.5))
    with pytest.raises(SurfaceError, match="no valid part"):
        measure_legibility(np.zeros((8, 8)), surface, truth)
