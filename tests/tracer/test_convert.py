import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from spirals import STEP, spiral

from tracer.cli.main import main
from tracer.convert.grid import crop, mirror, resample
from tracer.convert.mesh import mesh_of, read_mesh, surface_of, write_mesh
from tracer.errors import FormatError, ParamsError
from tracer.surface import Surface
from tracer.volume import Volume
from tracer.volume_writer import VolumeWriter


def run_tracer(*arguments):
    """Return the exit status of a command."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code


@pytest.mark.parametrize("ending", ["obj", "ply"])
def test_mesh__comes_back_as_the_surface(tmp_path, ending):
    surface, _ = spiral(1.5, holes=True)
    path = tmp_path / f"mesh.{ending}"
    write_mesh(path, mesh_of(surface))
    back = surface_of(read_mesh(path), STEP)
    assert back.shape == surface.shape
    both = back.valid & surface.valid
    assert both.sum() > 0.95 * surface.valid.sum()
    assert np.abs(back.points_xyz[both] - surface.points_xyz[both]).max() < 1e-3
    assert not back.valid[4:6, 21:23].any()


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(2, 9), cols=st.integers(2, 9), seed=st.integers(0, 99))
def test_mesh__round_trip_of_any_grid(tmp_path_factory, rows, cols, seed):
    rng = np.random.default_rng([seed])
    r, c = np.indices((rows, cols), dtype=np.float64)
    points = np.stack([90 + STEP * c, 90 + STEP * r, 60 + rng.normal(0, 1, r.shape)], axis=-1)
    valid = rng.random((rows, cols)) > 0.15
    surface = Surface(
        points_xyz=np.where(valid[..., None], points, -1).astype(np.float32),
        valid=valid,
        scale=(1 / STEP, 1 / STEP),
    )
    if not surface.valid_quads.any():
        with pytest.raises(ParamsError):
            mesh_of(surface)
        return
    mesh = mesh_of(surface)
    path = tmp_path_factory.mktemp("mesh") / "m.ply"
    write_mesh(path, mesh)
    back = read_mesh(path)
    assert np.array_equal(back.points_xyz, mesh.points_xyz)
    assert np.array_equal(back.triangles, mesh.triangles)
    assert np.array_equal(back.uv, mesh.uv)


def test_mesh__normals_follow_the_triangles():
    mesh = mesh_of(spiral(1)[0], every=2)
    a, b, c = (mesh.points_xyz[mesh.triangles[:, k]] for k in range(3))
    facing = np.cross(b - a, c - a)
    assert (np.einsum("ij,ij->i", facing, mesh.normals[mesh.triangles[:, 0]]) > 0).all()
    assert mesh.uv.max() <= 1.0


def test_read_mesh__says_what_is_wrong(tmp_path):
    for name, text in (("a.obj", "v 1 2 3\nf 1 1 1\n"), ("b.ply", "ply\nformat ascii 1.0\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(FormatError, match="not an OBJ or PLY mesh"):
            read_mesh(tmp_path / name)
    with pytest.raises(FormatError, match="cannot read"):
        read_mesh(tmp_path / "none.obj")
    with pytest.raises(ParamsError, match=r"\.obj or \.ply"):
        write_mesh(tmp_path / "mesh.stl", mesh_of(spiral(1)[0]))


def test_crop_mirror_resample():
    surface, _ = spiral(1.5)
    part = crop(surface, slice(2, 8), slice(5, 25))
    assert part.shape == (6, 20)
    assert np.array_equal(part.points_xyz, surface.points_xyz[2:8, 5:25])
    turned = mirror(surface, "cols")
    assert np.allclose(turned.normals()[:, ::-1], -surface.normals(), atol=1e-5)
    assert np.array_equal(mirror(turned, "cols").points_xyz, surface.points_xyz)
    coarse = resample(surface, 2 * STEP)
    assert coarse.scale == pytest.approx((0.5 / STEP,) * 2)
    assert np.allclose(coarse.points_xyz[:7, :10], surface.points_xyz[::2, ::2][:7, :10], atol=1e-3)
    with pytest.raises(ParamsError, match="no vertex is there"):
        crop(surface, slice(0, 0), slice(None))


def test_commands__on_the_disk(tmp_path, capsys):
    path = spiral(1.2)[0].save(tmp_path / "trace")
    assert run_tracer("convert", "to-mesh", path, tmp_path / "m.obj", "--every", 2) == 0
    assert (
        run_tracer("convert", "from-mesh", tmp_path / "m.obj", tmp_path / "back", "--step", 40) == 0
    )
    assert Surface.load(tmp_path / "back").step == pytest.approx(40)
    assert run_tracer("convert", "crop", path, tmp_path / "part", "--cols", "3:12") == 0
    assert run_tracer("convert", "mirror", path, tmp_path / "turned", "--axis", "rows") == 0
    assert run_tracer("convert", "resample", path, tmp_path / "fine", "--step", 10) == 0
    assert run_tracer("convert", "crop", path, tmp_path / "bad", "--cols", "3-12") == 2
    assert "give a:b" in capsys.readouterr().err


def test_rasterise__paints_a_band(tmp_path):
    writer = VolumeWriter.create(tmp_path / "like.zarr", (160, 200, 200), np.uint8, 7.91)
    writer.finish("mean")
    r, c = np.indices((6, 7), dtype=np.float64)
    points = np.stack([20 + STEP * c, 20 + STEP * r, 70 + 0.2 * STEP * c], axis=-1)
    surface = Surface(
        points_xyz=points.astype(np.float32), valid=np.ones((6, 7), bool), scale=(1 / STEP,) * 2
    )
    path = surface.save(tmp_path / "surface")
    out = tmp_path / "labels.zarr"
    like = tmp_path / "like.zarr"
    assert run_tracer("convert", "rasterise", path, out, "--like", like, "--half-width", 2) == 0
    label = Volume.open(out).read(0, (0, 0, 0), (160, 200, 200))
    assert set(np.unique(label)) == {0, 255}
    assert label[70 + 12, 60, 20 + 60] == 255
    z = np.flatnonzero(label[:, 60, 80])
    assert 4 <= len(z) <= 6
    assert abs(z.mean() - 82) < 1


def test_merge_masks__all_or_any(tmp_path):
    surface, _ = spiral(1.2)
    path = surface.save(tmp_path / "trace")
    names = []
    for k in range(2):
        mask = np.full(surface.shape, 255, np.uint8)
        mask[k] = 0
        names.append(tmp_path / f"mask{k}.png")
        Image.fromarray(mask).save(names[-1])
    assert run_tracer("convert", "merge-masks", path, *names) == 0
    assert not Surface.load(path).valid[:2].any()
    assert run_tracer("convert", "merge-masks", path, *names, "--mode", "any") == 0
    assert Surface.load(path).valid.all()
