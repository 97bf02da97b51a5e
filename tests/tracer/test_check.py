import base64
import json
import re
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image
from spirals import STEP, spiral

from tracer.atomic import write_json
from tracer.check import CheckParams, check
from tracer.check.measures import folded_cells, hole_cells, self_intersections
from tracer.check.page import MOST_PASSING, as_html
from tracer.check.pictures import crossings, grid_pictures, slice_picture
from tracer.check.report import Checked, Problem, Report
from tracer.cli.main import main
from tracer.errors import NothingFoundError
from tracer.surface import Surface
from tracer.volume_writer import VolumeWriter


def flat(rows=10, cols=12):
    """Return a flat surface."""
    r, c = np.indices((rows, cols), dtype=np.float64)
    points = np.stack([50 + STEP * c, 50 + STEP * r, np.full_like(r, 80.0)], axis=-1)
    return Surface(
        points_xyz=points.astype(np.float32),
        valid=np.ones((rows, cols), bool),
        scale=(1 / STEP,) * 2,
    )


def changed(surface, **fields):
    """Return a copy with other points or another mask."""
    values = {"points_xyz": surface.points_xyz.copy(), "valid": surface.valid.copy(), **fields}
    return Surface(**values, scale=surface.scale)


def save(surface, folder, name="one"):
    return surface.save(folder / name)


def edit_meta(path, **values):
    meta = json.loads((path / "meta.json").read_text())
    write_json(path / "meta.json", {**meta, **values})


def codes(path, **options):
    """Return the codes of the problems that fail."""
    (one,) = check([path], CheckParams(), together=False, **options).surfaces
    return {problem.code for problem in one.problems if problem.level == "fail"}


def test_check__a_good_trace_passes(tmp_path):
    report = check([save(spiral(2.5, noise=0.2)[0], tmp_path)], CheckParams())
    assert report.count("pass") == 1, report.to_json()


def test_check__finds_a_sheet_jump(tmp_path):
    assert codes(save(spiral(3, jump=30)[0], tmp_path)) == {"jump"}


def test_check__finds_a_fold(tmp_path):
    points = flat().points_xyz.copy()
    points[:, 6:, 0] = 2 * points[:, 5:6, 0] - points[:, 6:, 0]
    points[:, 6:, 2] += 3.0
    folded = changed(flat(), points_xyz=points)
    assert folded_cells(folded)[:, 4:7].any()
    assert not folded_cells(flat()).any()
    assert "fold" in codes(save(folded, tmp_path))


def test_check__finds_a_self_intersection(tmp_path):
    rows, cols = np.indices((8, 40), dtype=np.float64)
    angle = 2 * np.pi * cols / 36  # closes on itself, and leans through its own beginning
    radius = 120 + 30 * (cols / 40 - 0.5) * (rows / 8 - 0.45)
    points = np.stack(
        [300 + radius * np.cos(angle), 300 + radius * np.sin(angle), 60 + STEP * rows], axis=-1
    )
    crossing = Surface(
        points_xyz=points.astype(np.float32), valid=np.ones((8, 40), bool), scale=(1 / STEP,) * 2
    )
    assert len(self_intersections(crossing)) > 0
    assert len(self_intersections(spiral(2)[0])) == 0
    assert "self-intersection" in codes(save(crossing, tmp_path))


def test_check__finds_holes(tmp_path):
    valid = np.ones((10, 12), bool)
    valid[2:8, 3:9] = False
    holed = changed(flat(), valid=valid)
    assert hole_cells(valid) == (1, 36)
    assert codes(save(holed, tmp_path)) == {"hole"}


def test_check__finds_a_wrong_scale(tmp_path):
    path = save(flat(), tmp_path)
    edit_meta(path, scale=[STEP, STEP])
    assert codes(path) == {"scale"}


def test_check__finds_a_stale_bbox(tmp_path):
    path = save(flat(), tmp_path)
    edit_meta(path, bbox=[[0, 0, 0], [100, 100, 100]])
    assert codes(path) == {"bbox"}


def test_check__finds_torn_cells(tmp_path):
    points = flat().points_xyz.copy()
    points[:, 6:, 0] += 60
    assert "stretch" in codes(save(changed(flat(), points_xyz=points), tmp_path))


def test_check__finds_what_cannot_be_read(tmp_path):
    path = save(flat(), tmp_path)
    (path / "x.tif").write_bytes(b"II*\x00")
    assert codes(path) == {"unreadable"}


def test_check__finds_channels_that_are_missing_and_vertices_that_are_no_numbers(tmp_path):
    path = save(flat(), tmp_path)
    edit_meta(path, channels=["confidence"])
    (one,) = check([path], CheckParams(), together=False).surfaces
    assert one.verdict == "fail"
    assert "confidence.tif" in one.problems[0].text
    edit_meta(path, channels=[])
    x = tifffile.imread(path / "x.tif")
    x[2, 3] = np.nan
    tifffile.imwrite(path / "x.tif", x)
    (one,) = check([path], CheckParams(), together=False).surfaces
    assert [problem.code for problem in one.problems] == ["unreadable"]
    assert "vertex (2, 3) is nan" in one.problems[0].text


@pytest.mark.slow
def test_check__reads_what_vc3d_and_others_wrote(shared_data):
    found = {}
    for name in ("vc3d/trace", "vc3d/fuse", "vc3d/ground", "real/pherc0172_tifxyz"):
        report = check([shared_data / name], CheckParams(), together=False)
        found[name] = [
            {p.code for p in one.problems if p.level == "fail"} for one in report.surfaces
        ]
    assert found == {
        "vc3d/trace": [set()],
        "vc3d/fuse": [{"bbox"}],
        "vc3d/ground": [set()],
        "real/pherc0172_tifxyz": [{"scale"}] * 3,
    }


def plant_jump(path):
    jumping = spiral(3, jump=30)[0]
    shutil.rmtree(path)
    save(jumping, path.parent, path.name)


def plant_fold(path):
    points = flat().points_xyz.copy()
    points[:, 6:, 0] = 2 * points[:, 5:6, 0] - points[:, 6:, 0]
    points[:, 6:, 2] += 3.0
    shutil.rmtree(path)
    save(changed(flat(), points_xyz=points), path.parent, path.name)


def plant_self_intersection(path):
    rows, cols = np.indices((8, 40), dtype=np.float64)
    angle = 2 * np.pi * cols / 36
    radius = 120 + 30 * (cols / 40 - 0.5) * (rows / 8 - 0.45)
    x, y = 300 + radius * np.cos(angle), 300 + radius * np.sin(angle)
    points = np.stack([x, y, 60 + STEP * rows], axis=-1).astype(np.float32)
    shutil.rmtree(path)
    leaning = Surface(points_xyz=points, valid=np.ones((8, 40), bool), scale=(1 / STEP,) * 2)
    save(leaning, path.parent, path.name)


def plant_hole(path):
    valid = np.ones((10, 12), bool)
    valid[2:8, 3:9] = False
    shutil.rmtree(path)
    save(changed(flat(), valid=valid), path.parent, path.name)


@pytest.mark.parametrize(
    ("code", "plant"),
    [
        ("jump", plant_jump),
        ("fold", plant_fold),
        ("self-intersection", plant_self_intersection),
        ("hole", plant_hole),
        ("scale", lambda path: edit_meta(path, scale=[STEP, STEP])),
        ("bbox", lambda path: edit_meta(path, bbox=[[0, 0, 0], [100, 100, 100]])),
    ],
)
def test_check_command__catches_what_is_planted_in_one_of_several(tmp_path, capsys, code, plant):
    for name in ("before", "one", "last"):
        save(flat(), tmp_path / "paths", name)
    words = ["-q", "check", str(tmp_path / "paths"), "--alone", "--json"]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 0
    capsys.readouterr()
    plant(tmp_path / "paths" / "one")
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--html", str(tmp_path / "page.html")])
    assert stopped.value.code == 1
    found = json.loads(capsys.readouterr().out)
    assert [one["verdict"] == "fail" for one in found["checked"]] == [False, False, True]
    assert code in {p["code"] for p in found["checked"][2]["problems"] if p["level"] == "fail"}
    page = (tmp_path / "page.html").read_text()
    assert f"<li class='fail'>{code}: " in page


def test_check__needs_a_surface(tmp_path):
    with pytest.raises(NothingFoundError, match="no finished surface"):
        check([tmp_path], CheckParams())


def test_check__sees_that_a_prediction_was_made_anew_at_its_path(tmp_path):
    path = save(flat(), tmp_path)
    shares = []
    for z in (80, 60):
        sheet = np.zeros((128, 256, 320), np.uint8)
        sheet[z - 2 : z + 3] = 255
        shutil.rmtree(tmp_path / "p.zarr", ignore_errors=True)
        writer = VolumeWriter.create(tmp_path / "p.zarr", sheet.shape, np.uint8, 7.91)
        writer.write((0, 0, 0), sheet)
        writer.finish("max")
        (one,) = check([path], CheckParams(), prediction=str(tmp_path / "p.zarr")).surfaces
        shares.append(one.figures["on_prediction"][0])
    assert shares == [1.0, 0.0]


@pytest.mark.parametrize("tilt", [0.0, 12.0])
def test_normal_agreement__is_the_tilt_of_the_surface(tmp_path, tilt):
    sheet = np.zeros((96, 128, 128), np.uint8)
    sheet[46:51] = 255
    writer = VolumeWriter.create(tmp_path / "p.zarr", sheet.shape, np.uint8, 7.91)
    writer.write((0, 0, 0), sheet)
    writer.finish("max")
    rows, cols = np.indices((9, 9), dtype=np.float64)
    x, y = 44 + 5 * cols, 44 + 5 * rows
    z = 48 + (x - 64) * np.tan(np.radians(tilt))
    surface = Surface(
        points_xyz=np.stack([x, y, z], axis=-1).astype(np.float32),
        valid=np.ones((9, 9), bool),
        scale=(0.2, 0.2),
    )
    path = save(surface, tmp_path)
    (one,) = check([path], CheckParams(), prediction=str(tmp_path / "p.zarr")).surfaces
    median, p95 = one.figures["normal_agreement_deg"]
    assert median == pytest.approx(tilt, abs=0.2)
    assert p95 == pytest.approx(tilt, abs=1.0)


def test_check__marks_the_places_of_a_jump(tmp_path):
    surface, _ = spiral(3, jump=30)
    report = check([save(surface, tmp_path)], CheckParams())
    (problem,) = (p for p in report.surfaces[0].problems if p.code == "jump")
    assert problem.cells
    assert all(25 <= col <= 35 for _, col in problem.cells)
    marked = grid_pictures(surface, None, problem.cells)
    plain = grid_pictures(surface, None)
    assert [title for title in plain if plain[title] != marked[title]] == [list(plain)[-1]]
    assert slice_picture(surface, 2, None, problem.cells) != slice_picture(surface, 2)


def test_as_html__leaves_out_what_passes_in_a_large_collection():
    def surfaces(n):
        return tuple(Checked(name=f"p{k}", path="", figures={}, problems=()) for k in range(n))

    bad = Checked(name="bad", path="", figures={}, problems=(Problem("fold", "fail", "<f>"),))
    page = as_html(Report((*surfaces(MOST_PASSING), bad)))
    assert f"{MOST_PASSING} more surfaces pass" in page
    assert "&lt;f&gt;" in page
    assert len(page) < 2000
    assert "<td>p0</td>" in as_html(Report(surfaces(3)))


def test_check__warns_of_area_and_overlaps(tmp_path):
    path = save(flat(), tmp_path)
    edit_meta(path, area_vx2=1.0)
    write_json(path / "overlapping.json", {"overlapping": ["gone"]})
    (one,) = check([path], CheckParams(), together=False).surfaces
    assert one.verdict == "warn"
    assert {problem.code for problem in one.problems} == {"area", "overlap"}
    assert "gone" in one.problems[-1].text


@pytest.mark.slow
def test_check__blames_the_patch_that_the_others_contradict(shared_data, tmp_path):
    source = shared_data / "vc3d" / "patches_expanded"
    for entry in sorted(source.iterdir())[:120]:
        shutil.copytree(entry, tmp_path / entry.name)
    alone = check([tmp_path], CheckParams(), together=False)
    together = check([tmp_path], CheckParams())
    assert alone.count("fail") < together.count("fail") < 20
    codes = {p.code for s in together.surfaces for p in s.problems if p.level == "fail"}
    assert "suspect" in codes
    # Folders too large for memory are laid out in slabs, with about the same verdicts.
    slabs = check([tmp_path], CheckParams(memory_gb=0.02))
    names = [{s.name for s in r.surfaces if s.verdict == "fail"} for r in (together, slabs)]
    assert len(names[0] ^ names[1]) <= 2


def test_check__does_not_depend_on_workers(tmp_path):
    for k in range(3):
        save(spiral(1.5, noise=0.2, jump=20 if k == 1 else None)[0], tmp_path, f"trace{k}")
    one, two = (check([tmp_path], CheckParams(), workers=n) for n in (1, 2))
    assert json.dumps(one.to_json()) == json.dumps(two.to_json())
    assert as_html(one) == as_html(two)


def test_as_html__is_whole_and_the_same_every_time(tmp_path):
    report = check([save(spiral(2)[0], tmp_path)], CheckParams())
    page = as_html(report)
    assert page == as_html(report)
    assert "http://" not in page
    images = re.findall(r"src='data:image/png;base64,([^']*)'", page)
    assert len(images) == 6
    for number, data in enumerate(images):
        file = tmp_path / f"{number}.png"
        file.write_bytes(base64.b64decode(data))
        with Image.open(file) as picture:
            shades = len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0))
            assert shades > (0 if number == 5 else 1)  # the last shows holes, of which it has none


def test_crossings__of_a_flat_surface():
    lines = crossings(flat(), 0, 100.5)
    assert np.allclose(lines[..., 0], 100.5)
    assert lines[..., 1].min() == 50
    assert len(crossings(flat(), 0, 5000.0)) == 0


@pytest.mark.parametrize("jump", [None, 25])
def test_check_command__exit_status_json_and_page(tmp_path, capsys, jump):
    path = save(spiral(2.5, jump=jump)[0], tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["-q", "check", str(path), "--json", "--html", str(tmp_path / "page.html")])
    assert stopped.value.code == (0 if jump is None else 1)
    printed = json.loads(capsys.readouterr().out)
    assert printed["fail"] == (0 if jump is None else 1)
    assert "<h2>one" in (tmp_path / "page.html").read_text()
