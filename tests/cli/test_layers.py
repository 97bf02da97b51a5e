"""`tracer layers` in-process."""

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from tracer.cli.main import tracer
from tracer.errors import ParamsError
from tracer.layer_stack import read_picture, write_picture


def run(*args):
    return CliRunner().invoke(tracer, [str(arg) for arg in args], catch_exceptions=False)


@pytest.fixture
def stack(tmp_path, monkeypatch):
    layers = np.random.default_rng(0).integers(50, 200, (3, 30, 100)).astype(np.uint8)
    (tmp_path / "layers").mkdir()
    for i, layer in enumerate(layers):
        tifffile.imwrite(tmp_path / f"layers/{i:02d}.tif", layer)
    monkeypatch.chdir(tmp_path)
    return layers


def test_layers__split_contrast_and_stitch_examples(stack, tmp_path):
    result = run("layers", "split", "layers/", "chunks/", "--width", "60", "--overlap", "20")
    assert "2 chunks of 3 layers" in result.output
    assert sorted(path.name for path in (tmp_path / "chunks").iterdir()) == [
        "layers_00",
        "layers_40",
    ]
    run(
        "layers",
        "contrast",
        "layers/",
        "contrasted/",
        "--contrast",
        "clahe",
        "--layers-range",
        "1:3",
    )
    assert sorted(path.name for path in (tmp_path / "contrasted").iterdir()) == ["01.tif", "02.tif"]
    (tmp_path / "npy_files").mkdir()
    for folder in (tmp_path / "chunks").iterdir():
        np.save(tmp_path / f"npy_files/{folder.name}.npy", tifffile.imread(folder / "00.tif") / 255)
    result = run("layers", "stitch", "npy_files/", "-o", "ink.png", "--flip", "horizontal")
    assert "100 x 30 pixels from 2 predictions" in result.output
    np.testing.assert_array_equal(read_picture(tmp_path / "ink.png"), stack[0, :, ::-1])


def test_layers__run_lengths_and_back(stack, tmp_path):
    write_picture(tmp_path / "ink.png", stack[0])
    runs = run("layers", "rle", "ink.png", "--threshold", "0.4").output
    (tmp_path / "ink.txt").write_text(runs)
    expected = np.where(stack[0] / 255 >= 0.4, 255, 0)
    run("layers", "unrle", "ink.txt", "mask.png", "--like", "ink.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "mask.png"), expected)
    run("layers", "unrle", "ink.txt", "again.png", "--size", "30", "100")
    np.testing.assert_array_equal(read_picture(tmp_path / "again.png"), expected)
    with pytest.raises(ParamsError, match="either"):
        run("layers", "unrle", "ink.txt", "no.png")
