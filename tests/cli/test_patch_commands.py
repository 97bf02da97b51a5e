"""`tracer find`, `overlap`, `tag` and `mask`, in-process, as a person types them."""

import json

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from strategies import wavy_surface

from tracer.cli.main import tracer
from tracer.collection import TAGS, PatchCollection
from tracer.errors import CollectionError, FormatError, SurfaceError, TracerError
from tracer.surface import Surface
from tracer.volume_writer import VolumeWriter


def run(*arguments):
    """Return (exit status, output); errors of ours are raised, as `main` prints them."""
    result = CliRunner().invoke(tracer, [str(a) for a in arguments], standalone_mode=False)
    if isinstance(result.exception, TracerError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.return_value or 0, result.output


def usage_error(*arguments):
    result = CliRunner().invoke(tracer, [str(a) for a in arguments])
    assert result.exit_code == 2
    return result.output


@pytest.fixture
def paths(tmp_path):
    folder = tmp_path / "paths"
    wavy_surface(4, 5, seed=0).save(folder / "a")
    wavy_surface(4, 5, seed=1).save(folder / "b")
    wavy_surface(4, 5, seed=2, origin=(160.0, 200.0, 300.0)).save(folder / "c")
    return folder


def test_find__lists_patches_through_a_point_nearest_first(paths):
    x, y, z = wavy_surface(4, 5, seed=1).points_xyz[1, 1].astype(float)
    status, output = run("find", paths, x, y, z)
    assert status == 0
    lines = output.splitlines()
    assert lines[0] == "b  row 1.00 col 1.00 distance 0.00"
    assert lines[1].startswith("a  row ")
    assert lines[2] == "2 of 3 patches through the point"


def test_find__lists_patches_through_both_points(paths):
    surface = wavy_surface(4, 5, seed=0)
    first, second = surface.points_xyz[1, 0].astype(float), surface.points_xyz[1, 4].astype(float)
    status, output = run("find", paths, *first, *second, "--tolerance", 3)
    assert status == 0
    assert output.splitlines()[-1] == "2 and 3 of 3 patches through the point; 2 through both"


def test_find__exits_with_1_where_nothing_is_found(paths):
    assert run("find", paths, 1, 2, 3) == (1, "0 of 3 patches through the point\n")


def test_find__refuses_bad_input(paths):
    assert "2 coordinates" in usage_error("find", paths, 1, 2)
    with pytest.raises(CollectionError, match="all finite"):
        run("find", paths, 1, 2, "nan")
    with pytest.raises(CollectionError, match="no such directory"):
        run("find", paths / "none", 1, 2, 3)


def test_overlap__records_one_or_all(paths):
    status, output = run("overlap", paths, "a")
    assert (status, output) == (0, "a: overlaps 2 patches\n")
    collection = PatchCollection.open(paths)
    assert collection.overlaps("a") == ["b", "c"]
    assert collection.overlaps("c") == ["a"]
    assert run("overlap", paths, paths / "b")[1] == "b: overlaps 2 patches\n"
    assert len(run("overlap", paths, "--all")[1].splitlines()) == 3
    assert collection.overlap_graph() == {"a": ["b", "c"], "b": ["a", "c"], "c": ["a", "b"]}


def test_overlap__refuses_bad_input(paths, tmp_path):
    assert "or --all" in usage_error("overlap", paths)
    assert "or --all" in usage_error("overlap", paths, "a", "--all")
    outside = wavy_surface().save(tmp_path / "outside")
    with pytest.raises(CollectionError, match="or move it there"):
        run("overlap", paths, outside)
    (paths / "unfinished").mkdir()
    with pytest.raises(CollectionError, match="no finished patch"):
        run("overlap", paths, "unfinished")


@pytest.mark.parametrize("tag", TAGS)
def test_tag__sets_lists_and_removes(paths, tag):
    assert run("tag", paths / "a", tag, "--user", "me") == (0, f"a: {tag}\n")
    stored = json.loads((paths / "a" / "meta.json").read_text())["tags"]
    assert stored[tag]["user"] == "me"
    assert stored[tag]["date"].startswith("20")
    assert run("tag", paths / "a")[1] == f"a: {tag}\n"
    assert run("tag", paths / "a", tag, "--remove")[1] == f"a: no longer {tag}\n"
    assert run("tag", paths / "a", tag, "--remove")[1] == f"a: was not {tag}\n"
    assert run("tag", paths / "a")[1] == "a: no tags\n"


def test_tag__refuses_bad_input(paths):
    assert "approved" in usage_error("tag", paths / "a", "good")
    with pytest.raises(SurfaceError, match="no such surface"):
        run("tag", paths / "none", "approved")


def test_mask__takes_an_image_or_writes_a_template(paths, tmp_path):
    drawn = np.full((4, 5), 255, np.uint8)
    drawn[0] = 0
    tifffile.imwrite(tmp_path / "drawn.tif", drawn)
    status, output = run("mask", paths / "a", tmp_path / "drawn.tif")
    assert status == 0
    assert "keeps 15 of 20 vertices (75.0 %), 1 x 1 pixels per cell" in output
    assert Surface.load(paths / "a").valid.sum() == 15
    writer = VolumeWriter.create(tmp_path / "v.zarr", (512, 256, 256), np.uint8, 7.91, "v")
    writer.write((300, 128, 128), np.full((128, 128, 128), 200, np.uint8))
    writer.finish(pooling="mean")
    output = run("mask", paths / "a", "--template", tmp_path / "v.zarr", "--scale", 0.5)[1]
    assert "keeps 15 of 20 vertices (75.0 %), 10 x 10 pixels per cell" in output
    assert tifffile.imread(paths / "a" / "mask.tif", key=1).max() == 200


def test_mask__refuses_bad_input(paths, tmp_path):
    assert "give an IMAGE" in usage_error("mask", paths / "a")
    assert "give an IMAGE" in usage_error("mask", paths / "a", "x.png", "--template", "v.zarr")
    with pytest.raises(FormatError, match="cannot read"):
        run("mask", paths / "a", tmp_path / "none.tif")


@pytest.mark.parametrize("command", ["find", "overlap", "tag", "mask"])
def test_help__ends_with_an_example(command):
    output = run(command, "--help")[1]
    assert f"  tracer {command} " in output[output.index("Example") :]
