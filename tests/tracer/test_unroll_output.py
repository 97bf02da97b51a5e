import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from unroll_cases import collection, spiral, theta_of

from tracer.errors import OutputError, ParamsError
from tracer.surface import Surface
from tracer.unroll import Patches, UnrollParams, find_suspects, unroll, write_unrolled
from tracer.unroll.feedback import find_holes, winding_collections
from tracer.unroll.inpaint import diffuse, fill_domain, fill_winding
from tracer.unroll.output import REPORT
from tracer.unroll.params import parse_range
from tracer.unroll.sheet import used_box

PARAMS = UnrollParams(step=10.0)


@pytest.fixture(scope="module")
def result():
    return unroll(Patches.from_surfaces(collection(70, jumping=(5, 30))), PARAMS)


def test_write_unrolled__surface_with_channels_and_report(result, tmp_path):
    (path,) = write_unrolled(result, tmp_path / "flat", PARAMS)
    surface = Surface.load(path)
    assert set(surface.channels) == {"confidence", "state", "support", "wind_vis", "winding"}
    assert surface.meta["source"] == "tracer unroll"
    assert surface.meta["params"]["step"] == 10.0
    assert surface.meta["counts"]["patches_cut"] >= 1
    state, winding = surface.channels["state"], surface.channels["winding"]
    assert set(np.unique(state)) <= {0, 80, 100}
    assert (state > 0).tolist() == surface.valid.tolist()
    assert np.isfinite(winding).tolist() == surface.valid.tolist()
    names = {entry.name for entry in (path / REPORT).iterdir()}
    assert names >= {
        "suspects.json",
        "holes.json",
        "windings_absolute.json",
        "windings_relative.json",
        "plane_confidence.png",
        "plane_winding.png",
        "section.png",
    }


def test_write_unrolled__every_suspect_listed_has_its_picture(result, tmp_path):
    (path,) = write_unrolled(result, tmp_path / "flat", PARAMS)
    listed = json.loads((path / REPORT / "suspects.json").read_text())["suspects"]
    assert [s["kind"] for s in listed] == [
        s.kind for s in find_suspects(result.solved, result.components)
    ]
    assert len(listed) >= 2
    for suspect in listed:
        with Image.open(path / REPORT / suspect["picture"]) as image:
            assert image.size == (720, 720)
            colours = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
            assert len(colours) > 3


def test_write_unrolled__groups_that_do_not_touch_are_named_and_drawn(tmp_path):
    low, high = collection(30, z=(10.0, 60.0), seed=2), collection(30, z=(110.0, 150.0), seed=3)
    low = [cut_at(surface, 0, 70) for surface in low]
    high = [cut_at(surface, 95, 200) for surface in high]
    high = [dataclasses.replace(s, meta={"uuid": f"high_{k}"}) for k, s in enumerate(high)]
    result = unroll(Patches.from_surfaces(low + high), PARAMS)
    paths = write_unrolled(result, tmp_path / "flat", PARAMS)
    assert [path.name for path in paths][:2] == ["flat", "flat_component_1"]
    value = json.loads((paths[0] / REPORT / "suspects.json").read_text())
    listed = value["components"]
    assert [entry["component"] for entry in listed] == list(range(len(listed)))
    sides = [{name.startswith("high") for name in entry["patches"]} for entry in listed]
    assert all(len(side) == 1 for side in sides)
    assert set.union(*sides) == {True, False}
    assert (paths[0] / REPORT / "component_1" / "section.png").exists()


def cut_at(surface, low, high):
    """Return the part of a patch between two heights."""
    z = surface.points_xyz[..., 2]
    valid = surface.valid & (z > low) & (z < high)
    return dataclasses.replace(
        surface, points_xyz=np.where(valid[..., None], surface.points_xyz, -1), valid=valid
    )


def test_write_unrolled__section_shows_every_turn(result, tmp_path):
    (path,) = write_unrolled(result, tmp_path / "flat", PARAMS)
    with Image.open(path / REPORT / "section.png") as image:
        pixels = np.asarray(image).astype(int)
    lit = np.abs(pixels - [18, 18, 22]).sum(axis=-1) > 60
    row = lit[lit.shape[0] // 2]
    assert np.count_nonzero(np.diff(row.astype(int)) == 1) >= 5  # three turns, cut twice each


def test_write_unrolled__refuses_to_replace_unless_told(result, tmp_path):
    write_unrolled(result, tmp_path / "flat", PARAMS, pictures=False)
    with pytest.raises(OutputError, match="exists already"):
        write_unrolled(result, tmp_path / "flat", PARAMS, pictures=False)
    write_unrolled(result, tmp_path / "flat", PARAMS, pictures=False, overwrite=True)


def test_write_unrolled__turns_and_heights_select(result, tmp_path):
    params = UnrollParams(step=10.0, turn_min=1.0, turn_max=2.0, z_min=50.0, z_max=100.0)
    (path,) = write_unrolled(result, tmp_path / "part", params, pictures=False)
    part = Surface.load(path)
    z = part.points_xyz[part.valid][:, 2]
    whole = np.nanmin(result.components[0].sheet.winding)
    turns = part.channels["winding"][part.valid] - np.floor(whole)
    assert (z >= 50).all()
    assert (z <= 100).all()
    assert turns.min() >= 1.0
    assert turns.max() <= 2.0
    with pytest.raises(OutputError, match="nothing lies"):
        write_unrolled(result, tmp_path / "none", UnrollParams(step=10.0, z_min=9000.0))


def test_write_unrolled__wraps_and_columns_together_are_the_whole(result, tmp_path):
    (unrolled,) = result.components
    n = int((unrolled.state > 0).sum())
    for split in ("wrap", "column"):
        params = UnrollParams(step=10.0, split=split, column_width=400.0)
        paths = write_unrolled(result, tmp_path / split, params, pictures=False)
        parts = [Surface.load(path) for path in paths]
        assert len(parts) >= 3
        assert all(split in path.name for path in paths)
        assert sum(int(part.valid.sum()) for part in parts) >= n  # borders are shared
        points = np.concatenate([part.points_xyz[part.valid] for part in parts])
        assert len(np.unique(points, axis=0)) == n


def test_find_holes__are_on_the_sheet_where_no_patch_is(result):
    holes = find_holes(result)
    patches = result.solved.patches.points_xyz
    assert holes
    assert [h.area for h in holes] == sorted((h.area for h in holes), reverse=True)
    for hole in holes[:5]:
        point = np.array(hole.xyz)
        assert np.linalg.norm(point - spiral(theta_of(point), point[2])) < 6
        assert np.linalg.norm(patches - point, axis=1).min() > 2


@pytest.mark.parametrize("absolute", [True, False])
def test_winding_collections__differences_are_true(result, absolute):
    value = winding_collections(result, absolute=absolute)
    assert value["vc_pointcollections_json_version"] == "1"
    assert value["collections"]
    for entry in list(value["collections"].values())[:20]:
        points = np.array([point["p"] for point in entry["points"].values()])
        turns = np.array([point["wind_a"] for point in entry["points"].values()])
        error = turns - theta_of(points) / (2 * np.pi)
        assert np.ptp(error) < 0.12
        assert entry["metadata"]["winding_is_absolute"] is absolute


def test_fill_domain__bridges_narrow_gaps_and_enclosed_holes_only():
    valid = np.ones((9, 20), bool)
    valid[:, 8:16] = False
    valid[4, 8:16] = True
    valid[2, 3] = False
    assert fill_domain(valid, 0, 0).sum() == 1
    assert (fill_domain(valid, 20, 0) == ~valid).all()
    assert not fill_domain(np.zeros((3, 3), bool), 9, 0).any()
    lone = np.zeros((7, 7), bool)
    lone[3, 3] = True
    assert fill_domain(lone, 0, 1).sum() == 8


def test_diffuse__keeps_what_is_known_and_constants():
    rng = np.random.default_rng(0)
    valid = rng.random((13, 17)) < 0.3
    values = np.where(valid, rng.random((13, 17)), np.nan)
    out = diffuse(values, valid)
    assert np.isfinite(out).all()
    assert (out[valid] == values[valid]).all()
    assert diffuse(np.where(valid, 5.0, 0.0), valid) == pytest.approx(5.0)


def test_fill_winding__continues_a_ramp():
    true = np.add.outer(0.01 * np.arange(12), 0.05 * np.arange(40))
    valid = np.random.default_rng(1).random(true.shape) < 0.5
    filled = fill_winding(np.where(valid, true, np.nan), valid)
    assert np.abs(filled - true).max() < 0.05
    assert filled[valid] == pytest.approx(true[valid])


def test_used_box__smallest_box():
    used = np.zeros((5, 6), bool)
    used[2, 1] = used[3, 4] = True
    assert used_box(used) == (slice(2, 4), slice(1, 5))
    assert used_box(np.zeros((2, 3), bool)) == (slice(0, 2), slice(0, 3))


def test_parse_range__ends_may_be_open():
    assert parse_range("1:2.5", "turns") == (1.0, 2.5)
    assert parse_range(":4", "z") == (None, 4.0)
    for text in ("3", "a:b", "1:2:3"):
        with pytest.raises(ParamsError, match="range"):
            parse_range(text, "z")


def test_unroll_params__empty_ranges_are_an_error():
    with pytest.raises(ParamsError, match="turn_min"):
        UnrollParams.from_mapping({"turn_min": 3.0, "turn_max": 2.0})
