"""docs/first-light.md: its script, and its claims on the smallest piece of the real data."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import first_light
from tracer.cli.main import main
from tracer.errors import TracerWarning
from tracer.label_score import score_labels
from tracer.surface import Surface
from tracer.volume import Volume

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / first_light.PAGE).read_text(encoding="utf-8")


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        main(["-q", *map(str, arguments)])
    assert caught.value.code == 0


def test_commands__are_those_of_the_page_in_order():
    script = first_light.commands(
        "text\n```bash\na \\\n  b\n```\nmore\n```\nno\n```\n```bash\nc\n```"
    )
    assert script == "a \\\n  b\n\nc\n"
    assert first_light.commands(PAGE).count("tracer ") >= 10


def test_with_figures__replaces_and_repeats():
    page = "a\n<!-- figures: one -->\nold\n<!-- end -->\nb\n<!-- figures: two -->\n<!-- end -->\n"
    made = first_light.with_figures(page, {"one": "1", "two": "2"})
    assert made == page.replace("old", "1").replace("two -->\n", "two -->\n2\n")
    assert first_light.with_figures(made, {"one": "1", "two": "2"}) == made


def test_page__has_figures_and_small_pictures():
    assert PAGE.count("<!-- figures: ") == 3
    assert PAGE.count("| figure | value |") == 2
    names = [line.split("](")[1].rstrip(")") for line in PAGE.splitlines() if line[:2] == "!["]
    assert len(names) == 3
    for name in names:
        path = ROOT / "docs" / name
        assert path.stat().st_size < first_light.LARGEST_PNG
        Image.open(path).verify()


def test_crossings__of_a_cylinder_lie_on_it():
    angle, z = np.meshgrid(np.linspace(0.2, 1.2, 30), np.arange(1.0, 41.0, 4.0))
    points = np.stack([100 * np.cos(angle), 100 * np.sin(angle), z], axis=-1)
    surface = Surface(points_xyz=points, valid=np.ones(z.shape, bool), scale=(0.3, 0.25))
    lines = first_light.crossings(surface, 2, 19.5)
    assert lines.shape == (2 * 29, 2, 3)
    np.testing.assert_allclose(lines[..., 2], 19.5)
    np.testing.assert_allclose(np.hypot(lines[..., 0], lines[..., 1]), 100, atol=0.05)
    length = np.linalg.norm(lines[:, 1] - lines[:, 0], axis=-1).sum()
    assert length == pytest.approx(100, rel=1e-3)
    assert len(first_light.crossings(surface, 2, 50.0)) == 0


@pytest.mark.slow
def test_label_cubes__join(shared_data, tmp_path):
    cubes = shared_data / "real" / "scroll1_sheet_labels"
    run("prepare", cubes, tmp_path / "l.zarr", "--voxel-size-um", 7.91, "--dtype", "uint16",
        "--convert", "keep", "--pooling", "nearest")  # fmt: skip
    volume = Volume.open(tmp_path / "l.zarr")
    labels = volume.read(0, (0, 0, 0), volume.shape_zyx)
    assert first_light.face_agreement(labels, 0, 256) > 0.99
    assert first_light.face_agreement(labels, 1, 256) > 0.99
    assert not labels[256:, 256:].any()  # three cubes of four


def test_published_segments__open_with_a_warning(shared_data):
    paths = sorted((shared_data / "real" / "pherc0172_tifxyz").iterdir())
    assert len(paths) == 3
    for path in paths:
        with pytest.warns(TracerWarning, match=r"vertices are 12\.\d voxels apart .* means 128"):
            surface = Surface.load(path)
        assert surface.valid.mean() > 0.8


@pytest.mark.slow
def test_patches__stay_on_one_sheet_of_a_real_scroll(shared_data, tmp_path):
    (tmp_path / "cubes").mkdir()
    for name in ("02000_02000_02000_relabeled_mask.nrrd", "02256_02000_02000_relabeled_mask.nrrd"):
        shutil.copy(shared_data / "real" / "scroll1_sheet_labels" / name, tmp_path / "cubes")
    labels, middle = tmp_path / "labels.zarr", tmp_path / "middle.zarr"
    run("prepare", tmp_path / "cubes", labels, "--voxel-size-um", 7.91, "--dtype", "uint16",
        "--convert", "keep", "--pooling", "nearest")  # fmt: skip
    run("predict", "from-labels", labels, middle)
    run("seed", middle, tmp_path / "paths", "--count", 12, "--rng-seed", 1,
        "--min-area-cm", 0.01)  # fmt: skip
    score = score_labels([tmp_path / "paths"], Volume.open(labels))
    assert score.n_surfaces >= 8
    assert score.labelled > 0.9
    assert score.n_mixed == 0
