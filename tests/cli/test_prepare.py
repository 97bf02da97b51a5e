import json

import numpy as np
import pytest
import tifffile
from zarr_making import some_voxels

from tracer.cli.main import main
from tracer.volume import Volume


def run(capsys, *arguments):
    """Return exit status, standard output and standard error of the command."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return caught.value.code, out, err


def write_stack(folder, voxels):
    folder.mkdir()
    for z, plane in enumerate(voxels):
        tifffile.imwrite(folder / f"{z:04d}.tif", plane)


def test_prepare__makes_a_volume(tmp_path, capsys):
    voxels = some_voxels((12, 40, 40), np.uint16)
    write_stack(tmp_path / "slices", voxels)
    code, out, err = run(
        capsys, "prepare", tmp_path / "slices", tmp_path / "ct.zarr", "--voxel-size-um", 7.91
    )
    assert (code, err) == (0, "")
    assert out.startswith(f"{tmp_path / 'ct.zarr'}: 12 x 40 x 40 voxels")
    volume = Volume.open(tmp_path / "ct.zarr")
    assert (volume.dtype, volume.voxel_size_um, volume.uuid) == (np.uint8, 7.91, "ct")


def test_prepare__takes_params_from_a_file_and_options(tmp_path, capsys):
    np.save(tmp_path / "a.npy", some_voxels((20, 20, 20)))
    (tmp_path / "p.json").write_text(json.dumps({"voxel_size_um": 2.4, "pooling": "max"}))
    arguments = (
        "prepare",
        tmp_path / "a.npy",
        tmp_path / "v.zarr",
        "--params",
        tmp_path / "p.json",
    )
    code, _, _ = run(capsys, *arguments, "--chunk", 16, "--workers", 2)
    assert code == 0
    volume = Volume.open(tmp_path / "v.zarr")
    assert (volume.voxel_size_um, volume.chunk_shape_zyx(0)) == (2.4, (16, 16, 16))
    assert volume.meta.values["params"]["pooling"] == "max"
    assert run(capsys, *arguments)[0] == 2
    code, out, _ = run(capsys, "-q", *arguments, "--overwrite")
    assert (code, out) == (0, "")


@pytest.mark.parametrize(
    ("source", "options", "parts"),
    [
        ("slices", [], ["slices", "--voxel-size-um"]),
        ("gone", ["--voxel-size-um", "1"], ["gone", "check the path"]),
        ("slices", ["--voxel-size-um", "0"], ["voxel_size_um", "greater than 0"]),
        ("slices", ["--voxel-size-um", "1", "--origin", "a"], ["origin", "z,y,x"]),
        ("cut", ["--voxel-size-um", "1"], ["0001.tif", "restore"]),
        ("float.npy", ["--voxel-size-um", "1"], ["float32", "--window-min"]),
    ],
)
def test_prepare__says_what_is_wrong_on_one_line(tmp_path, capsys, source, options, parts):
    write_stack(tmp_path / "slices", some_voxels((3, 20, 20)))
    write_stack(tmp_path / "cut", some_voxels((3, 20, 20)))
    cut = tmp_path / "cut" / "0001.tif"
    cut.write_bytes(cut.read_bytes()[:300])
    np.save(tmp_path / "float.npy", np.zeros((4, 4, 4), np.float32))
    before = sorted(tmp_path.iterdir())
    code, out, err = run(capsys, "prepare", tmp_path / source, tmp_path / "v.zarr", *options)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err
    assert sorted(tmp_path.iterdir()) == before


def test_prepare__help_ends_with_an_example_that_runs(tmp_path, capsys, monkeypatch):
    code, out, _ = run(capsys, "prepare", "--help")
    assert code == 0
    assert "[default: 128]" in " ".join(out.split())
    example = next(line for line in out.splitlines() if line.strip().startswith("tracer prepare s"))
    write_stack(tmp_path / "slices", some_voxels((3, 20, 20)))
    monkeypatch.chdir(tmp_path)
    assert run(capsys, *example.split()[1:])[0] == 0
    assert Volume.open(tmp_path / "ct.zarr").shape_zyx == (3, 20, 20)
