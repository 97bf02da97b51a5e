import json
import shutil

import numpy as np
import pytest
from web_server import serving
from zarr_making import META, make_volume, some_voxels

from tracer.cli.main import main
from tracer.surface import Surface


def run(capsys, *arguments):
    """Return exit status, standard output and standard error of the command."""
    with pytest.raises(SystemExit) as caught:
        main(["info", *(str(argument) for argument in arguments)])
    out, err = capsys.readouterr()
    return caught.value.code, out, err


def run_json(capsys, *arguments):
    code, out, err = run(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def some_surface(step=10.0, **options):
    cols, rows = np.meshgrid(np.arange(5.0), np.arange(4.0))
    points = np.stack([20 + step * cols, np.full_like(cols, 30.0), 40 + step * rows], axis=-1)
    valid = np.ones((4, 5), bool)
    valid[0, 0] = False
    return Surface(points_xyz=points, valid=valid, **{"scale": (0.1, 0.1), **options})


def test_info__describes_a_volume(tmp_path, capsys):
    voxels = some_voxels((40, 34, 27))
    path = make_volume(tmp_path / "v.zarr", [voxels, voxels[::2, ::2, ::2]])
    code, out, _ = run(capsys, path)
    assert code == 0
    assert out.splitlines()[0] == f"{path}: volume"
    for part in ("40 x 34 x 27 voxels", "uint8", "7.91 µm", "2: 40x34x27, 20x17x14", "zarr v2"):
        assert part in out
    facts = run_json(capsys, path)
    assert (facts["kind"], facts["shape_zyx"], facts["voxel_size_um"]) == (
        "volume",
        [40, 34, 27],
        7.91,
    )
    assert facts["problem"] is None
    assert len(facts["identity"]) == 64
    with serving(tmp_path) as url:
        assert run_json(capsys, f"{url}/v.zarr")["identity"] == facts["identity"]


@pytest.mark.parametrize(
    ("meta", "part"),
    [(None, "meta.json: missing"), ({**META, "voxelsize": 0}, "key 'voxelsize' is 0")],
)
def test_info__describes_a_volume_without_voxel_size(tmp_path, capsys, meta, part):
    path = make_volume(
        tmp_path / "v.zarr", [some_voxels()], meta=meta, multiscales=False, zarr_format=3
    )
    code, out, _ = run(capsys, path)
    assert code == 0
    assert part in out
    assert "no multiscales" in out
    facts = run_json(capsys, path)
    assert facts["voxel_size_um"] is None
    assert facts["has_meta"] == (meta is not None)
    assert part in facts["problem"]


def test_info__describes_a_surface(tmp_path, capsys):
    surface = some_surface(
        channels={"generations": np.ones((4, 5), np.uint16)},
        meta={
            "target_volume": {"uuid": "vol-1", "voxelsize": 10.0},
            "tags": {"approved": {}},
            "source": "tracer seed",
            "seed": [1.0, 2.0, 3.0],
        },
    )
    surface.save(tmp_path / "paths" / "auto_grown_20260101000000000")
    path = tmp_path / "paths" / "auto_grown_20260101000000000"
    code, out, _ = run(capsys, path)
    assert code == 0
    for part in (
        "4 x 5 vertices",
        "95 % valid",
        "10 voxels by its scale; measured 10 x 10, which agrees",
        "generations (uint16)",
        "approved",
        "vol-1",
        "source tracer seed",
        "(20, 30, 40) to (60, 30, 70)",
    ):
        assert part in out
    facts = run_json(capsys, path)
    assert facts["area_vx2"] == pytest.approx(11 * 100.0)
    assert facts["area_cm2"] == pytest.approx(11 * 100.0 * 1e-6)
    assert (facts["shape"], facts["n_valid"], facts["scale_ok"]) == ([4, 5], 19, True)
    assert facts["tags"] == ["approved"]


def test_info__says_when_the_scale_of_a_surface_is_wrong(tmp_path, capsys):
    some_surface(step=40.0).save(tmp_path / "s")
    code, out, err = run(capsys, tmp_path / "s")
    assert (code, err) == (0, "")
    assert "DISAGREES" in out
    assert "wrong scale" in out
    assert not run_json(capsys, tmp_path / "s")["scale_ok"]


def test_info__describes_a_collection(tmp_path, capsys):
    paths = tmp_path / "paths"
    for number in range(2):
        some_surface(
            meta={"tags": {"approved": {}}, "target_volume": {"uuid": "v", "voxelsize": 5}}
        ).save(paths / f"auto_grown_2026010100000000{number}")
    some_surface().save(paths / "by_hand")
    (paths / "unfinished").mkdir()
    (paths / "auto_grown_20260101000000000" / "overlapping.json").write_text(
        '{"overlapping": ["auto_grown_20260101000000001", "gone"]}'
    )
    code, out, _ = run(capsys, paths)
    assert code == 0
    for part in ("3, ", "2 auto_grown", "1 pairs", "2 approved", "unfinished"):
        assert part in out
    facts = run_json(capsys, paths)
    assert (facts["n_surfaces"], facts["n_overlaps"]) == (3, 1)
    assert facts["unfinished"] == ["unfinished"]
    assert facts["kinds"] == {"auto_grown": 2, "named otherwise": 1}
    assert facts["bbox_xyz"] == [[20, 30, 40], [60, 30, 70]]
    assert facts["volumes"] == {"v": 2}
    (paths / "by_hand" / "meta.json").write_text("{")
    assert "not valid JSON" in run(capsys, paths)[1]


def test_info__describes_an_empty_collection(tmp_path, capsys):
    (tmp_path / "paths").mkdir()
    assert run_json(capsys, tmp_path / "paths")["n_surfaces"] == 0
    assert run(capsys, tmp_path / "paths")[0] == 0


def test_info__describes_a_package(tmp_path, capsys):
    package = tmp_path / "s.volpkg"
    make_volume(package / "volumes" / "one.zarr", [some_voxels()])
    make_volume(package / "volumes" / "two.zarr", [some_voxels().astype(np.float32)])
    (package / "config.json").write_text('{"name": "Scroll", "version": 6}')
    some_surface().save(package / "paths" / "auto_grown_20260101000000000")
    code, out, _ = run(capsys, package)
    assert code == 0
    for part in ("volpkg", "Scroll", "one.zarr: 21 x 34 x 27", "two.zarr: ", "float32", "paths"):
        assert part in out
    facts = run_json(capsys, package)
    assert sorted(facts["volumes"]) == ["one.zarr", "two.zarr"]
    assert facts["paths"]["n_surfaces"] == 1
    assert run_json(capsys, package, "--name", "one")["name"] == "vol"
    shutil.rmtree(package / "paths")
    assert run_json(capsys, package)["paths"] is None


def test_info__describes_the_reference_data(shared_data, capsys):
    facts = run_json(capsys, shared_data / "vc3d" / "patches_expanded")
    assert (facts["n_surfaces"], facts["kinds"]) == (248, {"auto_grown": 248})
    name = "auto_grown_20261121001236342"
    facts = run_json(capsys, shared_data / "vc3d" / "patches_expanded" / name)
    assert facts["provenance"]["source"] == "vc_grow_seg_from_seed"
    assert facts["voxel_size_um"] == pytest.approx(7.91, rel=1e-6)
    folder = shared_data / "real" / "pherc0172_tifxyz"
    for path in sorted(p for p in folder.iterdir() if p.is_dir()):
        assert not run_json(capsys, path)["scale_ok"]


@pytest.mark.parametrize("name", ["gone", "empty", "file.txt", "damaged.zarr", "half"])
def test_info__says_what_is_wrong_on_one_line(tmp_path, capsys, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    make_volume(tmp_path / "damaged.zarr", [some_voxels()])
    (tmp_path / "damaged.zarr" / "0" / ".zarray").write_text("{")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "x.tif").write_text("x")
    code, out, err = run(capsys, tmp_path / name)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {tmp_path / name}")
    assert err.count("\n") == 1
