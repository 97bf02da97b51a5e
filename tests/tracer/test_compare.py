import json

import numpy as np
import pytest
from spirals import PITCH, spiral

from tracer.cli.main import main
from tracer.compare import compare
from tracer.errors import FormatError, NothingFoundError
from tracer.point_collections import point_metrics, read_point_collections
from tracer.surface import Surface
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
    assert found.far.shape == (14, 35)


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
