"""`tracer render` in-process: both forms, folders, dry run, refusals."""

import json

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from strategies import wavy_surface

from tracer.cli.main import main, tracer
from tracer.errors import FormatError, ParamsError, SurfaceError
from tracer.render import RenderParams, render_layers
from tracer.surface import Surface
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter


def run(*args):
    return CliRunner().invoke(tracer, [str(arg) for arg in args], catch_exceptions=False)


@pytest.fixture
def scan(tmp_path, monkeypatch):
    """Enter a directory with scan.zarr and two surfaces in paths/."""
    array = np.random.default_rng(0).integers(0, 256, (40, 50, 130)).astype(np.uint8)
    writer = VolumeWriter.create(tmp_path / "scan.zarr", array.shape, array.dtype, 8.0, chunk=16)
    writer.write((0, 0, 0), array)
    writer.finish("mean")
    for name, seed in (("my_trace", 0), ("other", 1)):
        surface = wavy_surface(8, 9, step=4.0, origin=(8.0, 25.0, 4.0), seed=seed)
        surface.save(tmp_path / "paths" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stack(folder):
    return np.stack([tifffile.imread(file) for file in sorted(folder.glob("[0-9]*.tif"))])


def test_render__example_and_both_forms_equal_the_api(scan):
    result = run(
        "render", "scan.zarr", "layers/", "paths/my_trace",
        "--scale", "0.5", "--level", "1", "--layers", "21",
    )  # fmt: skip
    assert result.exit_code == 0
    assert "21 layers" in result.output
    run("render", "scan.zarr", "second/%02d.tif", "paths/my_trace", "0.5", "1", "21")
    params = RenderParams(scale=0.5, level=1, layers=21)
    expected = render_layers(Volume.open("scan.zarr"), Surface.load("paths/my_trace"), params)
    np.testing.assert_array_equal(stack(scan / "layers"), expected)
    np.testing.assert_array_equal(stack(scan / "second"), expected)


def test_render__count_chunks_writes_nothing(scan):
    result = run(
        "render", "scan.zarr", "layers/", "paths/my_trace", "--layers", "65", "--count-chunks"
    )
    assert "chunks" in result.output
    assert not (scan / "layers").exists()


def test_render__folder_of_surfaces(scan):
    run("render", "scan.zarr", "out", "paths", "1", "0", "2")
    assert sorted(path.name for path in (scan / "out").iterdir()) == ["my_trace", "other"]
    run("render", "scan.zarr", "maps/%02d.tif", "paths", "1", "0", "2")
    np.testing.assert_array_equal(stack(scan / "out/other"), stack(scan / "maps/other"))
    run("render", "scan.zarr", "all.zarr", "paths", "--output", "zarr")
    assert Volume.open(scan / "all/other.zarr").shape_zyx == (1, 32, 36)


def test_render__vc3d_flip_numbers_and_params_file(scan):
    (scan / "render.json").write_text(json.dumps({"layers": 2, "flip": 1}))
    run("render", "scan.zarr", "a", "paths/my_trace", "--params", "render.json")
    run("render", "scan.zarr", "b", "paths/my_trace", "--layers", "2")
    np.testing.assert_array_equal(stack(scan / "a"), stack(scan / "b")[..., ::-1])


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        (("paths/my_trace", "1", "0", "2", "9"), ParamsError, "unexpected argument '9'"),
        (("paths/my_trace", "1", "--scale", "2"), ParamsError, "scale is given twice"),
        (("paths/my_trace", "x"), ParamsError, "scale = 'x'"),
        (("paths/missing",), SurfaceError, "paths/missing"),
        (("scan.zarr",), FormatError, "format is 'zarr'"),
        (("scan.zarr/0",), SurfaceError, "neither"),
    ],
)
def test_render__refuses(scan, args, error, message):
    with pytest.raises(error, match=message):
        run("render", "scan.zarr", "out", *args)


def test_render__prints_one_line_for_bad_input(scan, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["render", "scan.zarr", "out", "paths/my_trace", "1", "7"])
    assert stop.value.code == 2
    assert "no level 7" in capsys.readouterr().err
