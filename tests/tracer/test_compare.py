import io
import json

import numpy as np
import pytest
from PIL import Image
from spirals import PITCH, spiral

from tracer.cli.main import main
from tracer.compare import compare, difference_picture
from tracer.compare.stage import voxel_size_um
from tracer.errors import FormatError, NothingFoundError
from tracer.point_collections import PointCollection, point_metrics, read_point_collections
from tracer.surface import Surface
from tracer.unroll.pictures import heat
from tracer.winding import solve_winding
from tracer.winding.output import point_collections


def part(first, last, *, up=0.0):
    """Return some columns of a spiral, perhaps moved along z."""
    surface, _ = spiral(2.5)
    points = surface.points_xyz[:, first:last] + np.float32([0, 0, up])
    return Surface(points_xyz=points, valid=surface.valid[:, first:last], scale=surface.scale)


def test_compare__of_a_part_with_the_whole(tmp_path):
    whole, half = part(0, 70).save(tmp_path / "whole"), part(0, 35).save(tmp_path / "half")
    found = compare(half, whole)
    assert found.a.covered == 1.0
    assert found.b.covered == pytest.approx(0.5, abs=0.02)
    assert found.a.distance_p95 < 0.01
    assert found.a.normal_median_deg < 0.1
    assert found.winding_disagreement == 0.0
    assert found.distances[0][0].shape == (14, 35)
    assert found.distances[1][0][:, 40:].min() > 3.0
    assert found.symmetric_median < 0.01


def test_compare__distance_and_sides(tmp_path):
    surface = part(0, 60)
    normals = surface.normals()
    moved = Surface(
        points_xyz=surface.points_xyz + 2.0 * np.nan_to_num(normals),
        valid=surface.valid,
        scale=surface.scale,
        meta={"elapsed_time_s": 3.5},
    )
    found = compare(surface.save(tmp_path / "a"), moved.save(tmp_path / "b"))
    assert found.a.distance_median == pytest.approx(2.0, abs=0.1)
    assert found.a.covered > 0.9
    assert found.b.seconds == 3.5


def test_compare__finds_where_windings_part(tmp_path):
    right = spiral(3)[0].save(tmp_path / "right")
    wrong = spiral(3, jump=25)[0].save(tmp_path / "wrong")
    found = compare(right, wrong)
    assert found.winding_disagreement > 0.2
    assert compare(right, right).winding_disagreement == 0.0


def test_compare__finds_a_switch_between_collections_of_patches(tmp_path):
    right, jumping = spiral(3)[0], spiral(3, jump=25)[0]
    for k, first in enumerate(range(0, right.shape[1] - 8, 5)):
        for name, whole in (("a", right), ("b", right), ("c", jumping)):
            one = Surface(
                points_xyz=whole.points_xyz[:, first : first + 9],
                valid=whole.valid[:, first : first + 9],
                scale=whole.scale,
            )
            one.save(tmp_path / name / f"patch_{k:03d}")
    assert compare(tmp_path / "a", tmp_path / "b").winding_disagreement == 0.0
    # Patches beyond the jump are sound by themselves: only those across it have switched.
    assert 0.01 < compare(tmp_path / "a", tmp_path / "c").winding_disagreement < 0.1
    # One patch among sound ones that has a jump: of it, and of it only, a part is wrong.
    crossing = Surface.load(tmp_path / "c" / "patch_004")
    crossing.save(tmp_path / "b" / "crossing")
    found = compare(tmp_path / "a", tmp_path / "b")
    assert 0 < found.winding_disagreement < 0.02


def test_compare__collections_of_many(tmp_path):
    for name, step in (("a", 10), ("b", 14)):
        for k, first in enumerate(range(0, 60, step)):
            part(first, first + 12).save(tmp_path / name / f"patch_{k}")
    found = compare(tmp_path / "a", tmp_path / "b")
    assert found.a.surfaces == 6
    assert found.a.covered == pytest.approx(12 / 14, abs=0.03)  # gaps of two columns in b
    assert found.winding_disagreement == 0.0


def test_compare__needs_surfaces(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingFoundError, match="no finished surface"):
        compare(tmp_path / "empty", tmp_path / "empty")


def test_point_metrics__of_its_own_points_and_of_shifted_windings(tmp_path):
    surface, _ = spiral(2.5)
    winding = solve_winding(surface)
    values = point_collections(surface, winding)
    path = tmp_path / "points.json"
    path.write_text(json.dumps(values))
    collections = read_point_collections(path)
    metrics = point_metrics(surface, winding.values.astype(float), collections)
    assert metrics.in_surface_metric == 1.0
    assert metrics.winding_error_fraction == 0.0
    for entry in values["collections"].values():
        points = list(entry["points"].values())
        for point in points[len(points) // 2 :]:
            point["wind_a"] += 1.0
        points[0]["p"][2] += 5 * PITCH * 20
    path.write_text(json.dumps(values))
    metrics = point_metrics(surface, winding.values.astype(float), read_point_collections(path))
    assert metrics.surface_missing_fraction > 0.0
    assert metrics.winding_error_fraction > 0.0


def naive_metrics(surface, winding, collections, fine=40):
    """Return the three shares by looking at every point of a finely divided surface."""
    share = (np.arange(fine) + 0.5) / fine
    v, u = (grid[..., None] for grid in np.meshgrid(share, share, indexing="ij"))
    places, windings = [], []
    for row, col in np.argwhere(surface.valid_quads):
        corners = surface.points_xyz[row : row + 2, col : col + 2].astype(float)
        numbers = winding[row : row + 2, col : col + 2][..., None]
        for values, into in ((corners, places), (numbers, windings)):
            top = values[0, 0] * (1 - u) + values[0, 1] * u
            low = values[1, 0] * (1 - u) + values[1, 1] * u
            into.append((top * (1 - v) + low * v).reshape(-1, values.shape[-1]))
    places, windings = np.concatenate(places), np.concatenate(windings)[:, 0]
    total = met = pairs = wrong = 0
    for collection in collections:
        before = None
        for point, said in zip(collection.points_xyz, collection.winding, strict=True):
            total += 1
            apart = np.linalg.norm(places - point, axis=1)
            nearest = apart.argmin()
            if apart[nearest] > 8.0:
                continue
            met += 1
            if np.isnan(said):
                continue
            if before is not None:
                pairs += 1
                wrong += abs((windings[nearest] - before[0]) - (said - before[1])) > 0.5
            before = (windings[nearest], said)
    return met / total, 1 - met / total, wrong / pairs


def test_point_metrics__equal_those_of_a_naive_search():
    surface, true = spiral(1.4, rows=5)
    surface = Surface(points_xyz=surface.points_xyz, valid=surface.valid, scale=surface.scale)
    winding = true + np.where(np.arange(true.shape[1]) > 25, 1.0, 0.0)  # a jump that is not there
    rng = np.random.default_rng([4])
    collections = []
    for number in range(6):
        rows, cols = rng.uniform(0, 4, 12), np.sort(rng.uniform(0, true.shape[1] - 1, 12))
        points, valid = surface.sample(rows, cols)
        away = rng.normal(0, 6.0, points.shape)  # off by more than 8 voxels about every third time
        said = np.interp(cols, np.arange(true.shape[1]), true[0])
        said[rng.random(12) < 0.2] += 1.0
        said[rng.random(12) < 0.1] = np.nan
        assert valid.all()
        collections.append(
            PointCollection(
                name=str(number),
                points_xyz=points.astype(float) + away,
                winding=said,
                is_absolute=False,
            )
        )
    found = point_metrics(surface, winding, collections)
    met, missing, wrong = naive_metrics(surface, winding, collections)
    assert found.points == 72
    assert 0.2 < missing < 0.8
    assert 0.1 < wrong < 0.9
    assert found.in_surface_metric == pytest.approx(met, abs=1e-9)
    assert found.surface_missing_fraction == pytest.approx(missing, abs=1e-9)
    assert found.winding_error_fraction == pytest.approx(wrong, abs=1e-9)


def test_compare__time_per_area_from_metadata(tmp_path):
    surface = part(0, 30)
    ours = {"elapsed_time_s": 6.0, "target_volume": {"voxelsize": 8.0}}
    theirs = {"elapsed_time_s": 9.0}
    for name, metas in (("a", [ours, {}]), ("b", [theirs, theirs])):
        for k, meta in enumerate(metas):
            one = Surface(
                points_xyz=surface.points_xyz, valid=surface.valid, scale=surface.scale, meta=meta
            )
            one.save(tmp_path / name / f"patch_{k}")
    found = compare(tmp_path / "a", tmp_path / "b")
    cm2 = surface.area_vx2 * (8e-4) ** 2
    assert (found.a.timed, found.b.timed) == (1, 2)
    assert found.a.seconds_per_cm2 == pytest.approx(6.0 / cm2)
    assert found.b.seconds_per_cm2 == pytest.approx(9.0 / cm2)  # the other side's voxel size
    assert "for 1 of them" in found.summary()
    stored = Surface(
        points_xyz=surface.points_xyz,
        valid=surface.valid,
        scale=surface.scale,
        meta={"area_cm2": 100 * (7.91e-4) ** 2, "area_vx2": 100.0},
    )
    assert voxel_size_um(stored) == pytest.approx(7.91)
    assert voxel_size_um(surface) == 0.0


def test_difference_picture__of_collections_shows_what_only_one_has(tmp_path):
    for name, last in (("a", 60), ("b", 40)):
        for k, first in enumerate(range(0, last, 10)):
            part(first, first + 11).save(tmp_path / name / f"patch_{k}")
    differing = compare(tmp_path / "a", tmp_path / "b")
    same = compare(tmp_path / "a", tmp_path / "a")
    dark_red = heat(np.array([0.0]))[0]

    def red_pixels(found):
        with Image.open(io.BytesIO(difference_picture(found))) as picture:
            slices = np.asarray(picture)[:-40]  # without the key
            return int((slices == dark_red).all(axis=-1).sum())

    assert red_pixels(differing) > 100
    assert red_pixels(same) == 0
    assert difference_picture(same) == difference_picture(same)


def test_read_point_collections__says_what_is_wrong(tmp_path):
    (tmp_path / "no.json").write_text('{"collections": {}}')
    with pytest.raises(FormatError, match="not a point collection file"):
        read_point_collections(tmp_path / "no.json")


def test_read_point_collections__of_vc3d(shared_data):
    path = shared_data / "real" / "pherc1218_windings" / "same_windings.json"
    collections = read_point_collections(path)
    assert len(collections) > 10
    assert all(len(c.points_xyz) == len(c.winding) for c in collections)
    assert not collections[0].is_absolute


@pytest.mark.slow
def test_compare__what_vc3d_wrote(shared_data):
    vc3d = shared_data / "vc3d"
    found = compare(vc3d / "trace", vc3d / "patches_expanded")
    assert (found.a.surfaces, found.b.surfaces) == (1, 248)
    assert found.a.covered > 0.99
    assert found.a.distance_median < 0.5
    assert 0.1 < found.b.covered < 0.5  # the trace has not got far
    assert found.b.normal_median_deg < 15


def test_compare_command__prints_and_draws(tmp_path, capsys):
    a, b = part(0, 60).save(tmp_path / "a"), part(10, 60).save(tmp_path / "b")
    picture = tmp_path / "far.png"
    with pytest.raises(SystemExit) as stopped:
        main(["compare", str(a), str(b), "--picture", str(picture)])
    assert stopped.value.code == 0
    assert "A: 1 surfaces" in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    (tmp_path / "many").mkdir()
    a.rename(tmp_path / "many" / "a")
    part(0, 9).save(tmp_path / "many" / "c")
    words = ["compare", str(tmp_path / "many"), str(b)]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--points", str(tmp_path / "p.json")])
    assert stopped.value.code == 2
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--picture", str(picture)])
    assert stopped.value.code == 0
