import json

import numpy as np
import pytest
from array_volume import ArrayVolume

from tracer.cli.main import main
from tracer.errors import NothingFoundError, SurfaceError
from tracer.label_score import labels_at, score_labelled_surfaces, score_labels
from tracer.surface import Surface
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter

SIZE = 160  # more than one box of labels


class Labels(ArrayVolume):
    path = "labels.zarr"


def slabs():
    """Ids 5, 6, 7 in planes x = 20, 24, 28, each 3 voxels thick; nothing from z = 150 on."""
    labels = np.zeros((SIZE, SIZE, 40), np.uint16)
    for label, x in ((5, 20), (6, 24), (7, 28)):
        labels[:150, :, x - 1 : x + 2] = label
    return labels


def plane(x, step=5.0, name="plane"):
    """A surface at x (a number, or one per row)."""
    rows, cols = np.mgrid[2:SIZE:step, 2:SIZE:step]
    x = np.broadcast_to(np.reshape(x, (-1, 1)), rows.shape)
    points = np.stack([x, cols, rows], axis=-1).astype(np.float32)
    scale = (1 / step, 1 / step)
    return Surface(
        points_xyz=points, valid=np.ones(rows.shape, bool), scale=scale, meta={"uuid": name}
    )


def test_labels_at__rounds_to_the_voxel_and_is_zero_outside():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 9, (30, 20, 150)).astype(np.uint16)
    points = rng.uniform(-3, 3, (4000, 3)) + rng.uniform(0, 1, (4000, 3)) * (150, 20, 30)
    expected = []
    for x, y, z in points:
        i, j, k = (int(np.floor(v + 0.5)) for v in (z, y, x))
        inside = 0 <= i < 30 and 0 <= j < 20 and 0 <= k < 150
        expected.append(labels[i, j, k] if inside else 0)
    assert np.count_nonzero(expected) > 200
    np.testing.assert_array_equal(labels_at(Labels(labels), points), expected)
    assert labels_at(Labels(labels), np.empty((0, 3))).shape == (0,)


def test_score_labelled_surfaces__of_a_surface_on_one_id():
    score = score_labelled_surfaces([plane(24.4)], Labels(slabs()))
    (one,) = score.surfaces
    assert (one.main_id, one.n_foreign, one.n_ids, one.is_mixed) == (6, 0, 1, False)
    assert one.n_vertices == 32 * 32
    assert one.n_labelled == 30 * 32  # rows at z = 152 and 157 are beyond the labels
    assert (score.purity, score.n_mixed, score.n_unlabelled) == (1.0, 0, 0)
    assert score.labelled == pytest.approx(30 / 32)


@pytest.mark.parametrize(("n_off", "is_mixed"), [(0, False), (1, True), (12, True)])
def test_score_labelled_surfaces__counts_what_is_on_another_id(n_off, is_mixed):
    x = np.full(32, 20.0)
    x[:n_off] = 28.0
    score = score_labelled_surfaces([plane(x), plane(24.0)], Labels(slabs()))
    first, second = score.surfaces
    assert (first.main_id, first.n_foreign, first.is_mixed) == (5, 32 * n_off, is_mixed)
    assert second.n_foreign == 0
    assert first.largest_foreign == score.largest_foreign == score.n_foreign == 32 * n_off
    assert score.n_mixed == int(is_mixed)
    assert score.purity == pytest.approx(1 - n_off / 60)


def test_score_labelled_surfaces__tells_slips_from_a_part_on_another_sheet():
    points = plane(20.0).points_xyz.copy()
    for row, col in ((3, 3), (4, 4), (10, 10), (12, 10)):
        points[row, col, 0] = 24.0
    surface = Surface(points_xyz=points, valid=np.ones(points.shape[:2], bool), scale=(0.2, 0.2))
    score = score_labelled_surfaces([surface], Labels(slabs()))
    assert (score.n_foreign, score.largest_foreign, score.n_mixed) == (4, 2, 0)


def test_score_labelled_surfaces__what_is_not_known_counts_neither_way():
    score = score_labelled_surfaces([plane(24.0), plane(35.0)], Labels(slabs()))
    assert (score.n_surfaces, score.n_unlabelled, score.n_mixed, score.purity) == (2, 1, 0, 1.0)
    assert score.surfaces[1].main_id == 0
    with pytest.raises(NothingFoundError, match=r"labels\.zarr: none of 1024 vertices"):
        score_labelled_surfaces([plane(35.0)], Labels(slabs()))
    with pytest.raises(NothingFoundError, match="no surface"):
        score_labelled_surfaces([], Labels(slabs()))


@pytest.fixture
def place(tmp_path, monkeypatch):
    labels = slabs()
    writer = VolumeWriter.create(tmp_path / "labels.zarr", labels.shape, labels.dtype, 7.91)
    writer.write((0, 0, 0), labels)
    writer.finish("nearest")
    for name, x in (("a", 20.0), ("b", 24.0)):
        plane(x).save(tmp_path / "paths" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_score_labels__reads_folders_of_surfaces(place):
    volume = Volume.open("labels.zarr")
    seen = []
    score = score_labels(["paths"], volume, progress=lambda *args: seen.append(args))
    assert [one.name for one in score.surfaces] == ["a", "b"]
    assert seen == [(1, 2, "a"), (2, 2, "b")]
    assert score.to_json() == score_labels(["paths/a", "paths/b"], volume).to_json()
    with pytest.raises(SurfaceError, match="gone"):
        score_labels(["gone"], volume)


def test_score__command_with_labels(place, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["score", "paths", "--labels", "labels.zarr", "--json"])
    assert caught.value.code == 0
    expected = score_labels(["paths"], Volume.open("labels.zarr")).to_json()
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(expected))
    with pytest.raises(SystemExit) as caught:
        main(["score", "paths", "--labels", "labels.zarr"])
    assert caught.value.code == 0
    assert "2 surfaces on 2 ids" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--labels", "labels.zarr", "--truth", "."]])
def test_score__wants_either_truth_or_labels(place, capsys, options):
    with pytest.raises(SystemExit) as caught:
        main(["score", "paths", *options])
    assert caught.value.code == 2
    assert "either --truth or --labels" in capsys.readouterr().err
