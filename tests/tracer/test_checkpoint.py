import json

import numpy as np
import pytest
import tifffile
from unroll_cases import collection, patch

from tracer.checkpoint import checkpoint, parse_region
from tracer.collection import PatchCollection
from tracer.errors import CollectionError, FormatError, NothingFoundError, ParamsError
from tracer.surface import Surface
from tracer.trace.patches import is_approved, load_surfaces


@pytest.fixture
def paths(tmp_path):
    """Patches on a spiral."""
    folder = tmp_path / "paths"
    for surface in collection(12):
        surface.save(folder / surface.name)
    return folder


@pytest.fixture
def traced(tmp_path):
    """A surface over some of them, as a trace writes it."""
    surface = patch(20.0, 80.0, rows=14, cols=30, name="auto_trace_1")
    made = Surface(
        points_xyz=surface.points_xyz,
        valid=surface.valid,
        scale=surface.scale,
        channels={"support": np.arange(14 * 30, dtype=np.uint16).reshape(14, 30)},
        meta={"source": "tracer trace", "used_segments": ["a"], "tags": {"defective": {}}},
    )
    return made.save(tmp_path / "traces" / "auto_trace_1")


def test_checkpoint__adds_an_approved_super_patch(paths, traced):
    whole = Surface.load(traced)
    result = checkpoint(traced, paths, approval={"user": "me"})
    assert result.path.parent == paths
    assert result.path.name.startswith("checkpoint_")
    added = Surface.load(result.path)
    assert np.array_equal(added.points_xyz, whole.points_xyz)
    assert added.meta["tags"] == {"approved": {"user": "me"}}
    assert added.meta["checkpoint_of"]["trace"] == "auto_trace_1"
    assert added.meta["used_segments"] == ["a"]
    assert len(result.overlaps) > 0
    opened = PatchCollection.open(paths)
    assert opened.overlaps(result.path.name) == list(result.overlaps)
    assert all(result.path.name in opened.overlaps(other) for other in result.overlaps)
    known = load_surfaces(paths)
    assert is_approved(known[result.path.name])


def test_checkpoint__keeps_region_and_masks_only(paths, traced, tmp_path):
    whole = Surface.load(traced)
    drawn = np.full((28, 60), 255, np.uint8)
    drawn[:8] = 0  # rows 0 to 3
    tifffile.imwrite(tmp_path / "drawn.tif", drawn)
    own = np.full(whole.shape, 255, np.uint8)
    own[:, 20:] = 0
    tifffile.imwrite(traced / "mask.tif", own)
    result = checkpoint(
        traced,
        paths,
        region=parse_region(":10, 2:"),
        mask=tmp_path / "drawn.tif",
        name="mine",
    )
    added = Surface.load(paths / "mine")
    expected = (slice(4, 10), slice(2, 20))
    assert np.array_equal(added.points_xyz, whole.points_xyz[expected])
    assert np.array_equal(added.channels["support"], whole.channels["support"][expected])
    assert result.n_kept == whole.valid[expected].sum()
    assert result.n_trace < whole.valid.sum()  # its own mask
    assert not (paths / "mine" / "mask.tif").exists()
    assert added.meta["tags"] == {}
    assert added.meta["checkpoint_of"]["region"] == ":10,2:"


def test_checkpoint__leaves_nothing_behind_where_it_refuses(paths, traced, tmp_path):
    before = sorted(p.name for p in paths.iterdir())
    checkpoint_of = {"trace": traced, "paths": paths}
    for error, match, values in (
        (CollectionError, "there is a 'patch_000'", {"name": "patch_000"}),
        (CollectionError, "cannot be the name", {"name": ".hidden"}),
        (CollectionError, "cannot be the name", {"name": "z_dbg_gen_1"}),
        (CollectionError, "cannot be the name", {"name": "a/b"}),
        (NothingFoundError, "14 x 30 vertices", {"region": parse_region("100:,:")}),
        (NothingFoundError, "no quad", {"region": parse_region("3:4,:")}),
        (FormatError, "not a readable image", {"mask": traced / "meta.json"}),
    ):
        with pytest.raises(error, match=match):
            checkpoint(**checkpoint_of, **values)
    assert sorted(p.name for p in paths.iterdir()) == before


@pytest.mark.parametrize("text", ["", "1:2", "1:2,3", "a:b,c:d", "1:2,3:4,5:6", "-1:2,:", "4:4,:"])
def test_parse_region__refuses(text):
    with pytest.raises(ParamsError, match="region"):
        parse_region(text)


def test_parse_region__numbers_may_be_left_out():
    assert parse_region("1:2,3:4") == (slice(1, 2), slice(3, 4))
    assert parse_region(":,:7") == (slice(None), slice(None, 7))


def test_checkpoint_command__says_what_it_did(paths, traced, capsys):
    from tracer.cli.main import main

    with pytest.raises(SystemExit) as stopped:
        main(["checkpoint", str(traced), "--into", str(paths), "--name", "part", "--user", "me"])
    assert stopped.value.code == 0
    assert "part, approved" in capsys.readouterr().out
    tags = json.loads((paths / "part" / "meta.json").read_text())["tags"]
    assert tags["approved"]["user"] == "me"
    assert "date" in tags["approved"]
