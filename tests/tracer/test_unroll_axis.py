import json

import numpy as np
import pytest
from unroll_cases import collection

from tracer.errors import FormatError, ParamsError
from tracer.unroll.axis import Axis, choose_axis, estimate_axis, parse_axis, read_axis
from tracer.unroll.frames import patch_normals
from tracer.unroll.patches import Patches


def test_axis__interpolates_between_and_stays_beyond():
    axis = Axis(points_xyz=[[0, 0, 10], [10, 20, 20]])
    assert axis.at([0, 15, 99]).tolist() == [[0, 0], [5, 10], [10, 20]]


def test_axis__turns_and_radii_of_the_four_directions():
    axis = Axis(points_xyz=[[5, 5, 0]])
    points = np.array([[7, 5, 1], [5, 8, 1], [4, 5, 1], [5, 0, 1]], float)
    assert axis.turns(points) == pytest.approx([0, 0.25, 0.5, 0.75])
    assert axis.radii(points) == pytest.approx([2, 3, 1, 5])


@pytest.mark.parametrize("points", [[[1, 2]], [[1, 2, np.nan]], np.empty((0, 3))])
def test_axis__unusable_points_are_an_error(points):
    with pytest.raises(FormatError):
        Axis(points_xyz=np.array(points))


def test_read_axis__json_and_text_agree(tmp_path):
    (tmp_path / "a.json").write_text(
        json.dumps({"control_points": [{"x": 1, "y": 2, "z": 3}, {"x": 4, "y": 5, "z": 6}]})
    )
    (tmp_path / "b.txt").write_text("# umbilicus\n3, 2, 1\n6 5 4\n")
    (tmp_path / "c.txt").write_text("x y z\n1 2 3\n4 5 6\n")
    read = [read_axis(tmp_path / name).points_xyz.tolist() for name in ("a.json", "b.txt", "c.txt")]
    assert read == [[[1, 2, 3], [4, 5, 6]]] * 3


def test_read_axis__vc3d_umbilicus(shared_data):
    axis = read_axis(shared_data / "real" / "pherc1218_windings" / "umbilicus.json")
    assert len(axis.points_xyz) == 365
    assert axis.at(32.0) == pytest.approx([3765.52091, 3711.08632], abs=1e-4)


@pytest.mark.parametrize("text", ["", "1 2\n", "{}", '{"control_points": [{"x": 1}]}', "a b c\n"])
def test_read_axis__anything_else_is_an_error_that_names_the_file(tmp_path, text):
    (tmp_path / "bad").write_text(text)
    with pytest.raises(FormatError, match="bad"):
        read_axis(tmp_path / "bad")


def test_read_axis__missing_file(tmp_path):
    with pytest.raises(FormatError, match="cannot read"):
        read_axis(tmp_path / "none")


def test_parse_axis__point_and_polyline():
    assert parse_axis("3,4").at(100).tolist() == [3, 4]
    assert parse_axis("0,0,0;2,2,2").at(1).tolist() == [1, 1]


@pytest.mark.parametrize("text", ["1", "a,b", "1,2;3,4,5", ""])
def test_parse_axis__anything_else_is_an_error(text):
    with pytest.raises(ParamsError, match="axis"):
        parse_axis(text)


def test_choose_axis__not_both(tmp_path):
    assert choose_axis(None, None) is None
    with pytest.raises(ParamsError, match="both"):
        choose_axis(tmp_path, "1,2")


def test_estimate_axis__runs_inside_the_innermost_wrap():
    patches = Patches.from_surfaces(collection(60))
    axis = estimate_axis(patches.points_xyz, patch_normals(patches))
    z = np.linspace(10, 150, 8)
    true = np.stack([150 + 3 * np.sin(z / 60), np.full(8, 150.0)], axis=1)
    assert np.linalg.norm(axis.at(z) - true, axis=1).max() < 12  # the innermost wrap is at 48


def test_estimate_axis__few_vertices_give_their_centre():
    points = np.array([[0, 0, 0], [2, 4, 6]], np.float32)
    axis = estimate_axis(points, np.full((2, 3), np.nan, np.float32))
    assert axis.points_xyz.tolist() == [[1, 2, 3]]
    with pytest.raises(ParamsError, match="no vertex"):
        estimate_axis(np.empty((0, 3), np.float32), np.empty((0, 3), np.float32))
