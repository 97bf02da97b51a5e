"""Rendering of whole surfaces against direct sampling, and what ends up on disk."""

import json

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import render as naive
from PIL import Image
from strategies import wavy_surface

from tracer.errors import FormatError, OutputError, ParamsError, SurfaceError, VolumeError
from tracer.render import RenderParams, count_chunks, render_layers, render_surface
from tracer.render.tif_stack import TifStack
from tracer.surface import Surface
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter


def write_volume(path, array, *, chunk=16, pooling="mean"):
    """Return an opened volume with a pyramid."""
    writer = VolumeWriter.create(path, array.shape, array.dtype, 8.0, chunk=chunk)
    writer.write((0, 0, 0), array)
    writer.finish(pooling)
    return Volume.open(path)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """Return a random volume of 40 x 50 x 130 voxels in chunks of 16."""
    array = np.random.default_rng(0).integers(0, 256, (40, 50, 130)).astype(np.uint8)
    return write_volume(tmp_path_factory.mktemp("render") / "scan.zarr", array)


@pytest.fixture(scope="module")
def sheet():
    """Return a curved surface of 9 x 12 vertices with holes inside that volume."""
    return wavy_surface(9, 12, step=4.0, origin=(8.0, 25.0, 4.0), holes=3)


def expected_layers(volume, surface, params):
    """Return unrounded layers of the full canvas and the valid pixels."""
    level = volume.read(params.level, (0, 0, 0), volume.level_shape_zyx(params.level))
    per_cell = params.scale / 2**params.level / surface.scale[0]
    size = [int(n * per_cell + 0.5 + 1e-6) for n in surface.shape]
    rows = (np.arange(size[0]) + 0.5) / (params.scale / 2**params.level / surface.scale[1])
    cols = (np.arange(size[1]) + 0.5) / (params.scale / 2**params.level / surface.scale[0])
    offsets = np.arange(params.layers) - (params.layers - 1) / 2
    return naive.render(
        level,
        surface.points_xyz,
        surface.normals(),
        surface.valid,
        rows,
        cols,
        offsets,
        params.level,
    )


@settings(max_examples=15)
@given(
    st.integers(0, 1000),
    st.sampled_from([0.5, 1.0, 1.7]),
    st.sampled_from([0, 1]),
    st.integers(1, 6),
    st.sampled_from([16, 32, 256]),
)
def test_render_layers__equals_direct_sampling(scan, seed, scale, level, layers, tile):
    surface = wavy_surface(7, 9, step=5.0, origin=(5.0, 25.0, 3.0), holes=4, seed=seed)
    params = RenderParams(scale=scale, level=level, layers=layers, tile=tile)
    out = render_layers(scan, surface, params)
    expected, ok = expected_layers(scan, surface, params)
    assert out.shape == expected.shape
    assert ok.any()
    assert np.abs(out - expected).max() <= 0.5 + 1e-5


def test_render_layers__pixels_do_not_depend_on_how(scan, sheet):
    params = RenderParams(layers=5, scale=1.5)
    whole = render_layers(scan, sheet, params)
    tight = 3 * 8 * 5 * 16**2 / 1e9 + 22 * 16**3 / 1e9 + 1e-5
    for change in ({"tile": 16}, {"tile": 32, "threads": 3}, {"tile": 16, "memory_gb": tight}):
        np.testing.assert_array_equal(
            render_layers(scan, sheet, params.model_copy(update=change)), whole
        )


def test_render_layers__identity_on_voxels(tmp_path):
    array = np.random.default_rng(1).integers(1, 256, (20, 21, 22)).astype(np.uint8)
    volume = write_volume(tmp_path / "v.zarr", array)
    r, c = np.mgrid[:10, :11]
    points = np.stack([c + 5, r + 6, np.full_like(r, 7)], axis=-1) - np.array([0.5, 0.5, 0])
    surface = Surface(points_xyz=points, valid=np.ones((10, 11), bool), scale=(1.0, 1.0))
    out = render_layers(volume, surface, RenderParams(layers=3))
    # Pixel centres lie half a cell into the grid: the last row and column have no surface.
    np.testing.assert_array_equal(out[:, :-1, :-1], array[6:9, 6:15, 5:15])
    assert not out[:, -1].any()
    assert not out[:, :, -1].any()


def test_render_layers__canvas_is_cells_over_scale(scan, sheet):
    surface = Surface(
        points_xyz=sheet.points_xyz, valid=sheet.valid, scale=(0.25, 0.05000000074505806)
    )
    out = render_layers(scan, surface, RenderParams(scale=0.5))
    assert out.shape == (1, 9 * 10, 12 * 2)


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", ["none", "vertical", "horizontal", "both"])
def test_render_layers__crop_turn_and_mirror(scan, sheet, rotate, flip):
    whole = render_layers(scan, sheet, RenderParams(layers=2))
    out = render_layers(
        scan,
        sheet,
        RenderParams(
            layers=2,
            crop_x=5,
            crop_y=3,
            crop_width=31,
            crop_height=22,
            rotate=rotate,
            flip=flip,
            tile=16,
        ),
    )
    expected = np.rot90(whole[:, 3:25, 5:36], rotate // 90, axes=(1, 2))
    if flip in ("vertical", "both"):
        expected = expected[:, ::-1]
    if flip in ("horizontal", "both"):
        expected = expected[:, :, ::-1]
    assert expected.any()
    np.testing.assert_array_equal(out, expected)


def test_render_layers__flip_normals_reverses_the_layers(scan, sheet):
    straight = render_layers(scan, sheet, RenderParams(layers=4))
    flipped = render_layers(scan, sheet, RenderParams(layers=4, flip_normals=True))
    np.testing.assert_array_equal(flipped, straight[::-1])
    assert (flipped != straight).any()


def test_render_layers__layer_zero_is_against_the_normal(tmp_path):
    z = np.arange(20, dtype=np.uint8)[:, None, None] + np.zeros((1, 20, 20), np.uint8)
    volume = write_volume(tmp_path / "v.zarr", z * 10)
    r, c = np.mgrid[:4, :4] * 4.0
    points = np.stack([c + 2, r + 2, np.full_like(r, 10.0)], axis=-1)  # normal is +z
    surface = Surface(points_xyz=points, valid=np.ones((4, 4), bool), scale=(0.25, 0.25))
    out = render_layers(volume, surface, RenderParams(layers=4))
    assert out[:, 5, 5].tolist() == [85, 95, 105, 115]


def cylinder(*, inward, radius=20.0, centre=(30.0, 25.0), turn=np.pi):
    """Return part of a cylinder about the z axis whose normal points inward or outward."""
    angle, z = np.meshgrid(np.linspace(0, turn, 16), np.linspace(5, 35, 9))
    points = np.stack(
        [centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle), z], axis=-1
    )
    points = points[:, ::-1] if inward else points
    surface = Surface(points_xyz=points, valid=np.ones(z.shape, bool), scale=(0.25, 0.25))
    normal = surface.normals()[4, 8]
    towards = np.array([*centre, points[4, 8, 2]]) - points[4, 8]
    assert (normal @ towards > 0) == inward
    return surface


def ring_volume(path):
    """Return a volume whose value is the distance from the axis of `cylinder`."""
    y, x = np.mgrid[:50, :60]
    radius = np.hypot(x - 30, y - 25)[None] + np.zeros((40, 1, 1))
    return write_volume(path, (4 * radius).astype(np.uint8))


@pytest.mark.parametrize("inward", [True, False])
@pytest.mark.parametrize("from_file", [True, False])
def test_render_layers__recto_up_ends_nearest_the_axis(tmp_path, inward, from_file):
    volume = ring_volume(tmp_path / "v.zarr")
    umbilicus = tmp_path / "umbilicus.json"
    umbilicus.write_text(json.dumps({"control_points": [{"x": 30, "y": 25, "z": 0}]}))
    params = RenderParams(layers=5, recto_up=True, umbilicus=str(umbilicus) if from_file else "")
    profile = render_layers(volume, cylinder(inward=inward), params)[:, 12, 24].astype(int)
    assert (np.diff(profile) < 0).all()
    flipped = params.model_copy(update={"flip_normals": True})
    profile = render_layers(volume, cylinder(inward=inward), flipped)[:, 12, 24].astype(int)
    assert (np.diff(profile) > 0).all()


def test_render_layers__recto_up_needs_curvature(scan):
    r, c = np.mgrid[:6, :6] * 4.0
    points = np.stack([c + 10, np.full_like(r, 20.0), r + 10], axis=-1)
    flat = Surface(points_xyz=points, valid=np.ones((6, 6), bool), scale=(0.25, 0.25))
    with pytest.raises(SurfaceError, match="too flat"):
        render_layers(scan, flat, RenderParams(recto_up=True))


def test_render_layers__affine_and_scale_segmentation(scan, sheet, tmp_path):
    matrix = np.array([[0, -1, 0, 50], [1, 0, 0, -3], [0, 0, 1, 2]], dtype=float)
    file = tmp_path / "affine.json"
    file.write_text(json.dumps({"transformation_matrix": matrix.tolist()}))
    source = np.where(
        sheet.valid[..., None],
        (sheet.points_xyz.astype(np.float64) - matrix[:, 3]) @ matrix[:, :3] / 0.5,
        -1.0,
    )
    assert (source[sheet.valid][:, 2] > 0).all()
    back = Surface(points_xyz=source, valid=sheet.valid, scale=(0.125, 0.125))
    params = RenderParams(layers=3, affine=str(file), scale_segmentation=0.5)
    out = render_layers(scan, back, params)
    expected = render_layers(scan, sheet, RenderParams(layers=3))
    assert out.shape == expected.shape
    shown = render_layers(scan, sheet, RenderParams())[0] > 0
    assert np.abs(out.astype(int) - expected)[:, shown].max() <= 1

    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 0, 1]]))
    text = tmp_path / "inverse.txt"
    text.write_text("\n".join(" ".join(map(str, row)) for row in inverse))
    again = params.model_copy(update={"affine": str(text), "invert_affine": True})
    assert np.abs(render_layers(scan, back, again).astype(int) - out).max() <= 1


def test_render_layers__a_mirror_image_keeps_its_side(tmp_path):
    z = np.arange(20, dtype=np.uint8)[:, None, None] + np.zeros((1, 20, 20), np.uint8)
    volume = write_volume(tmp_path / "v.zarr", z * 10)
    r, c = np.mgrid[:4, :4] * 4.0
    points = np.stack([c + 2, r + 2, np.full_like(r, 10.0)], axis=-1)
    surface = Surface(points_xyz=points, valid=np.ones((4, 4), bool), scale=(0.25, 0.25))
    mirror = tmp_path / "mirror.txt"
    mirror.write_text("-1 0 0 16\n0 1 0 0\n0 0 1 0\n")
    out = render_layers(volume, surface, RenderParams(layers=2, affine=str(mirror)))
    assert out[:, 5, 5].tolist() == [95, 105]


@pytest.mark.parametrize("content", ["1 2 3", "[[1,0,0,0],[0,1,0,0],[0,0,0,0]]", "{}", "a b"])
def test_render_layers__refuses_a_bad_affine(scan, sheet, tmp_path, content):
    file = tmp_path / "affine.txt"
    file.write_text(content)
    with pytest.raises(FormatError, match=r"affine\.txt"):
        render_layers(scan, sheet, RenderParams(affine=str(file)))


def test_render_layers__sixteen_bits(tmp_path, sheet):
    array = np.random.default_rng(2).integers(0, 65536, (40, 50, 60)).astype(np.uint16)
    volume = write_volume(tmp_path / "v.zarr", array)
    expected, _ = expected_layers(volume, sheet, RenderParams(layers=2))
    eight = render_layers(volume, sheet, RenderParams(layers=2))
    sixteen = render_layers(volume, sheet, RenderParams(layers=2, depth="16"))
    assert (eight.dtype, sixteen.dtype) == (np.uint8, np.uint16)
    assert np.abs(eight - expected / 257).max() <= 0.5 + 1e-5
    assert np.abs(sixteen - expected).max() <= 0.5 + 1e-3


def read_stack(folder):
    """Return the numbered tifs of a folder."""
    files = sorted(file for file in folder.glob("*.tif") if file.stem.isdigit())
    return np.stack([tifffile.imread(file) for file in files])


@pytest.mark.parametrize("compression", ["lzw", "deflate", "zstd", "none"])
@pytest.mark.parametrize("depth", ["8", "16"])
def test_render_surface__tifs_hold_the_layers(scan, sheet, tmp_path, compression, depth):
    params = RenderParams(layers=3, tile=32, compression=compression, depth=depth)
    result = render_surface(scan, sheet, tmp_path / "out", params)
    expected = render_layers(scan, sheet, params)
    assert result.shape == expected.shape
    np.testing.assert_array_equal(read_stack(tmp_path / "out"), expected)
    with tifffile.TiffFile(tmp_path / "out/00.tif") as tif:
        page = tif.pages[0]
        assert page.is_tiled
        assert (page.tilewidth, page.tilelength) == (32, 32)
        assert page.predictor == (1 if compression == "none" else 2)
        assert page.tags["XResolution"].value[0] / 1000 == 1e4 / 8
        assert not tif.is_bigtiff
    meta = json.loads((tmp_path / "out/render.json").read_text())
    assert meta["um_per_pixel"] == 8.0
    assert meta["orientation"] == "d/dcol x d/drow"
    assert meta["volume"]["path"] == str(scan.path)
    assert sorted(meta["files"]) == ["00.tif", "01.tif", "02.tif"]
    assert not list((tmp_path / "out").glob(".*"))


def test_render_surface__bigtiff_past_the_limit(scan, sheet, tmp_path, monkeypatch):
    monkeypatch.setattr("tracer.render.tif_stack._CLASSIC_LIMIT", 100)
    params = RenderParams(tile=16)
    render_surface(scan, sheet, tmp_path / "out", params)
    with tifffile.TiffFile(tmp_path / "out/00.tif") as tif:
        assert tif.is_bigtiff
        np.testing.assert_array_equal(tif.asarray(), render_layers(scan, sheet, params)[0])


def test_render_surface__patterns_and_ranges(scan, sheet, tmp_path):
    params = RenderParams(layers=6, layers_range="2:5")
    render_surface(scan, sheet, tmp_path / "a/layer_%03d.tif", params)
    names = sorted(file.name for file in (tmp_path / "a").glob("layer_*.tif"))
    assert names == ["layer_002.tif", "layer_003.tif", "layer_004.tif"]
    whole = render_layers(scan, sheet, RenderParams(layers=6))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a/layer_003.tif"), whole[3])
    render_surface(scan, sheet, tmp_path / "b/one.tif", RenderParams())
    assert (tmp_path / "b/one.tif").exists()
    with pytest.raises(ParamsError, match="one file for 2 layers"):
        render_surface(scan, sheet, tmp_path / "c/one.tif", RenderParams(layers=2))


def test_render_surface__zarr_opens_as_volume_and_pools_in_the_plane(scan, sheet, tmp_path):
    params = RenderParams(layers=3, scale=13.0, tile=64, output="zarr", mask=False)
    render_surface(scan, sheet, tmp_path / "out.zarr", params)
    expected = render_layers(scan, sheet, params)
    group = zarr.open_group(tmp_path / "out.zarr", mode="r")
    np.testing.assert_array_equal(group["0"][:], expected)
    rows, cols = expected.shape[1:]
    assert group["1"].shape == (3, -(-rows // 2), -(-cols // 2))
    even = expected[:, : rows // 2 * 2, : cols // 2 * 2].astype(float)
    means = even.reshape(3, rows // 2, 2, cols // 2, 2).mean(axis=(2, 4))
    difference = np.abs(group["1"][:, : rows // 2, : cols // 2] - means)
    assert difference.max() <= 0.5
    scales = group.attrs["multiscales"][0]["datasets"][1]["coordinateTransformations"][0]["scale"]
    assert scales == [8.0, 2 * 8 / 13, 2 * 8 / 13]
    meta = json.loads((tmp_path / "out.zarr/meta.json").read_text())
    assert (meta["slices"], meta["height"], meta["width"]) == expected.shape
    assert meta["voxelsize"] == pytest.approx(8 / 13)
    assert (tmp_path / "out.zarr/preview.jpg").exists()


def test_render_surface__both_outputs(scan, sheet, tmp_path):
    params = RenderParams(layers=2, output="both", tile=32, preview="png")
    render_surface(scan, sheet, tmp_path / "out", params)
    np.testing.assert_array_equal(
        zarr.open_array(tmp_path / "out/layers.zarr/0", mode="r")[:], read_stack(tmp_path / "out")
    )


def test_render_surface__composites_mask_and_preview(scan, sheet, tmp_path):
    params = RenderParams(
        layers=7,
        composite="max,mean,min,alpha",
        composite_range="1:5",
        tile=32,
        preview="png",
        alpha_min=0.1,
        alpha_max=0.8,
        alpha_opacity=0.5,
    )
    render_surface(scan, sheet, tmp_path / "out", params)
    layers = render_layers(scan, sheet, params)[1:5]
    images = {name: tifffile.imread(tmp_path / f"out/{name}.tif") for name in params.composites}
    np.testing.assert_array_equal(images["max"], layers.max(axis=0))
    np.testing.assert_array_equal(images["min"], layers.min(axis=0))
    assert np.abs(images["mean"] - layers.mean(axis=0)).max() <= 0.5
    alpha = naive.alpha_composite(layers, 25.5, 204.0, 0.5, 1.0)
    assert np.abs(images["alpha"] - alpha).max() <= 0.5 + 1e-9
    _, ok = expected_layers(scan, sheet, params)
    mask = np.asarray(Image.open(tmp_path / "out/mask.png"))
    np.testing.assert_array_equal(mask, np.where(ok, 255, 0))
    preview = np.asarray(Image.open(tmp_path / "out/preview.png"))
    np.testing.assert_array_equal(preview, images["max"])


class Killed(BaseException):
    """Stands for the end of the process."""


def interrupt(monkeypatch, after):
    """Make the next render die after some tiles."""
    write = TifStack.write

    def dying(self, index, tiles):
        if len(self.finished) >= after:
            raise Killed
        write(self, index, tiles)

    monkeypatch.setattr(TifStack, "write", dying)


@pytest.mark.parametrize("output", ["tif", "both"])
@pytest.mark.parametrize("garbage", [b"", b"half a record"])
def test_render_surface__continues_after_a_kill(
    scan, sheet, tmp_path, monkeypatch, output, garbage
):
    params = RenderParams(layers=3, tile=16, output=output, composite="max")
    render_surface(scan, sheet, tmp_path / "whole", params)
    with monkeypatch.context() as patch:
        interrupt(patch, after=2)
        with pytest.raises(Killed):
            render_surface(scan, sheet, tmp_path / "out", params)
    assert not (tmp_path / "out/00.tif").exists()
    for name in (".journal", ".01.tif.part"):
        with (tmp_path / "out" / name).open("ab") as file:
            file.write(garbage)
    result = render_surface(scan, sheet, tmp_path / "out", params)
    assert result.tiles_kept == 2
    for name in ("00.tif", "01.tif", "02.tif", "max.tif", "mask.png", "preview.jpg"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert render_surface(scan, sheet, tmp_path / "out", params).was_complete


def test_render_surface__continues_after_a_kill_while_finishing(scan, sheet, tmp_path, monkeypatch):
    params = RenderParams(layers=3, tile=16)
    render_surface(scan, sheet, tmp_path / "whole", params)
    with monkeypatch.context() as patch:
        replace = type(tmp_path).replace

        def dying(self, target):
            if self.name == ".01.tif.part":
                raise Killed
            return replace(self, target)

        patch.setattr(type(tmp_path), "replace", dying)
        with pytest.raises(Killed):
            render_surface(scan, sheet, tmp_path / "out", params)
    assert (tmp_path / "out/00.tif").exists()
    result = render_surface(scan, sheet, tmp_path / "out", params)
    assert result.chunks_read == 0
    for name in ("00.tif", "01.tif", "02.tif"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_render_surface__files_do_not_depend_on_threads(scan, sheet, tmp_path):
    for threads in (1, 3):
        params = RenderParams(layers=2, tile=16, threads=threads)
        render_surface(scan, sheet, tmp_path / str(threads), params)
    for name in ("00.tif", "01.tif", "render.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()


def test_render_surface__refuses_what_is_there(scan, sheet, tmp_path, monkeypatch):
    render_surface(scan, sheet, tmp_path / "out", RenderParams(tile=16))
    with pytest.raises(OutputError, match=r"scale 1\.0 \(now 2\.0\).*overwrite"):
        render_surface(scan, sheet, tmp_path / "out", RenderParams(scale=2, tile=16))
    with monkeypatch.context() as patch:
        interrupt(patch, after=2)
        with pytest.raises(Killed):
            render_surface(scan, sheet, tmp_path / "half", RenderParams(tile=16))
    with pytest.raises(OutputError, match="unfinished render with layers 1"):
        render_surface(scan, sheet, tmp_path / "half", RenderParams(layers=2, tile=16))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/00.tif").write_bytes(b"something else")
    with pytest.raises(OutputError, match=r"00\.tif: exists already"):
        render_surface(scan, sheet, tmp_path / "other", RenderParams())


@pytest.mark.parametrize("state", ["complete", "half"])
def test_render_surface__overwrites_on_request(scan, sheet, tmp_path, monkeypatch, state):
    first = RenderParams(layers=3, tile=16)
    if state == "half":
        with monkeypatch.context() as patch:
            interrupt(patch, after=2)
            with pytest.raises(Killed):
                render_surface(scan, sheet, tmp_path / "out", first)
    else:
        render_surface(scan, sheet, tmp_path / "out", first)
    params = RenderParams(layers=2, tile=16, scale=2.0)
    render_surface(scan, sheet, tmp_path / "out", params, overwrite=True)
    np.testing.assert_array_equal(read_stack(tmp_path / "out"), render_layers(scan, sheet, params))
    mask = np.asarray(Image.open(tmp_path / "out/mask.png"))
    assert mask.shape == read_stack(tmp_path / "out").shape[1:]


def test_count_chunks__is_what_a_render_reads(scan, sheet, tmp_path):
    params = RenderParams(layers=5, tile=16)
    counted = count_chunks(scan, sheet, params)
    result = render_surface(scan, sheet, tmp_path / "out", params)
    assert counted.touched == counted.reads == result.chunks_read == result.chunks_touched
    assert counted.stored_bytes == result.bytes_read
    assert not counted.is_estimate
    whole = 3 * 4 * 9
    assert 0 < counted.touched < whole
    assert counted.decoded_bytes == counted.touched * 16**3


def test_count_chunks__little_memory_reads_more(scan, sheet, tmp_path):
    tight = RenderParams(
        layers=5, tile=16, memory_gb=8 * 3 * 5 * 256 / 1e9 + 1e-5 + 13 * 4096 / 1e9
    )
    counted = count_chunks(scan, sheet, tight)
    assert counted.reads > counted.touched
    assert "repetitions" in counted.summary()
    result = render_surface(scan, sheet, tmp_path / "out", tight)
    assert result.chunks_read == counted.reads


def test_count_chunks__missing_chunks_cost_nothing(tmp_path, sheet):
    array = np.zeros((40, 50, 60), np.uint8)
    array[:16] = 9
    volume = write_volume(tmp_path / "v.zarr", array)
    counted = count_chunks(volume, sheet, RenderParams(layers=3))
    assert 0 < counted.present < counted.touched
    out = render_layers(volume, sheet, RenderParams(layers=3))
    expected, _ = expected_layers(volume, sheet, RenderParams(layers=3))
    assert np.abs(out - expected).max() <= 0.5 + 1e-5


def test_render_layers__names_bad_input(scan, sheet):
    with pytest.raises(VolumeError, match="no level 9"):
        render_layers(scan, sheet, RenderParams(level=9))
    empty = Surface(points_xyz=sheet.points_xyz, valid=np.zeros_like(sheet.valid))
    with pytest.raises(SurfaceError, match="nothing to render"):
        render_layers(scan, empty, RenderParams())
    far = Surface(points_xyz=sheet.points_xyz + np.float32(500), valid=sheet.valid)
    with pytest.raises(SurfaceError, match=r"spans x, y, z 5\d\d.*0\.\.129 0\.\.49 0\.\.39"):
        render_layers(scan, far, RenderParams())
    with pytest.raises(ParamsError, match="memory_gb"):
        render_layers(scan, sheet, RenderParams(memory_gb=1e-4))
    with pytest.raises(ParamsError, match="crop starts at x 400"):
        render_layers(scan, sheet, RenderParams(crop_x=400))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rotate": 45}, "multiple of 90"),
        ({"tile": 100}, "multiple of 16"),
        ({"layers": 5, "layers_range": "3:9"}, "3:9"),
        ({"composite": "max,median"}, "median"),
        ({"invert_affine": True}, "needs affine"),
        ({"scale": 0}, "greater than 0"),
        ({"alpha_min": 0.5, "alpha_max": 0.5}, "alpha_max"),
        ({"flip": "3"}, "flip"),
    ],
)
def test_render_params__refuses(values, message):
    with pytest.raises(ParamsError, match=message):
        RenderParams.from_mapping(values)


def test_render_layers__names_a_damaged_chunk(tmp_path, sheet):
    volume = write_volume(tmp_path / "v.zarr", np.full((40, 50, 60), 7, np.uint8))
    for file in (tmp_path / "v.zarr/0").glob("*/*/*"):
        file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(VolumeError, match="damaged chunk"):
        render_layers(volume, sheet, RenderParams(threads=2))
