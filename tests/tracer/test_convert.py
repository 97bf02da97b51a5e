import struct
import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from spirals import STEP, spiral

from tracer.cli.main import main
from tracer.convert.grid import crop, mirror, resample
from tracer.convert.mesh import mesh_of, read_mesh, simplified, surface_of, write_mesh
from tracer.errors import FormatError, ParamsError
from tracer.spatial_index import SpatialIndex
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


def ply_file(order, *, faces, corner_uv=False, vertex_uv=True, extra=True):
    """Return a PLY file of five vertices written by hand, in ASCII ('') or binary ('<', '>')."""
    names = {"": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}
    points = [(0, 0, 5), (40, 0, 5), (40, 40, 5), (0, 40, 5), (20, 60, 5)]
    columns = [*"xyz", *(["nx", "ny", "nz"] if extra else []), *(["s", "t"] if vertex_uv else [])]
    head = ["ply", f"format {names[order]} 1.0", "comment by hand", "element vertex 5"]
    head += [f"property float {name}" for name in columns]
    if extra:
        head += ["element edge 1", "property int vertex1", "property int vertex2"]
    head += [f"element face {len(faces)}", "property list uchar uint vertex_index"]
    head += ["property list uchar float texcoord"] if corner_uv else []
    rows = [
        [*p, *((0, 0, 1) if extra else ()), *((p[0] / 40, p[1] / 60) if vertex_uv else ())]
        for p in points
    ]
    parts = [("f", row) for row in rows] + ([("i", [0, 1])] if extra else [])
    for face in faces:
        parts += [("B", [len(face)]), ("I", face)]
        if corner_uv:
            uv = [value for k in face for value in (points[k][0] / 40, points[k][1] / 60)]
            parts += [("B", [len(uv)]), ("f", uv)]
    if order:
        body = b"".join(struct.pack(f"{order}{len(v)}{kind}", *v) for kind, v in parts)
    else:
        body = "\n".join(" ".join(map(str, values)) for _, values in parts).encode() + b"\n"
    return "\n".join([*head, "end_header"]).encode() + b"\n" + body


@pytest.mark.parametrize("order", ["", "<", ">"])
@pytest.mark.parametrize(
    "faces",
    [[[0, 1, 2], [0, 2, 3]], [[0, 1, 2, 3]], [[0, 1, 2, 4, 3]], [[0, 1, 2, 3], [2, 4, 3]]],
    ids=["triangles", "quad", "pentagon", "mixed"],
)
@pytest.mark.parametrize("corner_uv", [False, True])
def test_read_mesh__ply_of_any_kind(tmp_path, order, faces, corner_uv):
    path = tmp_path / "m.ply"
    path.write_bytes(ply_file(order, faces=faces, corner_uv=corner_uv, vertex_uv=not corner_uv))
    mesh = read_mesh(path)
    assert len(mesh.triangles) == sum(len(face) - 2 for face in faces)
    a, b, c = (mesh.points_xyz[mesh.triangles[:, k]] for k in range(3))
    area = 0.5 * np.cross(b - a, c - a)[:, 2]
    assert area.sum() == pytest.approx(1600 + (400 if 4 in np.concatenate(faces) else 0))
    assert (area > 0).all()
    assert np.allclose(mesh.uv, mesh.points_xyz[:, :2] / [40, 60])
    assert np.allclose(mesh.normals, [0, 0, 1])
    surface = surface_of(mesh, 10)
    assert np.allclose(surface.points_xyz[surface.valid][:, 2], 5)


@pytest.mark.parametrize("order", ["", "<", ">"])
def test_read_mesh__ply_that_is_broken(tmp_path, order):
    path = tmp_path / "m.ply"
    good = ply_file(order, faces=[[0, 1, 2, 3], [2, 4, 3]])
    broken = {
        "cut off": good[:-6],
        "vertex 9 of 5": ply_file(order, faces=[[0, 1, 9]]),
        "2 corners": ply_file(order, faces=[[0, 1]]),
        "no texture coordinates": ply_file(order, faces=[[0, 1, 2]], vertex_uv=False),
        "no vertices or no faces": good.replace(b"element face 2", b"element foot 2"),
        "no format": good.replace(b"format ", b"format x"),
        "no end_header": good.replace(b"end_header", b"the_header"),
    }
    for message, data in broken.items():
        path.write_bytes(data)
        with pytest.raises(FormatError, match=message):
            read_mesh(path)


@pytest.mark.parametrize("ending", ["obj", "ply"])
def test_mesh__decimated_keeps_uv_and_normals(tmp_path, ending):
    surface, _ = spiral(1.5, rows=17)
    mesh = mesh_of(surface, every=4)
    full = mesh_of(surface)
    assert len(mesh.triangles) < len(full.triangles) / 14
    path = tmp_path / f"mesh.{ending}"
    write_mesh(path, mesh)
    back = read_mesh(path)
    corners = [one.points_xyz[one.triangles] for one in (mesh, back)]
    assert np.array_equal(*corners)
    assert np.allclose(mesh.uv[mesh.triangles], back.uv[back.triangles], atol=1e-12)
    assert np.allclose(mesh.normals[mesh.triangles], back.normals[back.triangles], atol=1e-6)
    fine = surface_of(back, STEP)
    assert fine.valid.mean() > 0.9
    hits = SpatialIndex.from_surfaces({"whole": surface}).query(fine.points_xyz[fine.valid], 20.0)
    assert (np.diff(hits.offsets) == 1).all()
    assert hits.distances.max() < (4 * STEP) ** 2 / (8 * 60)  # chords on the innermost wrap


def fake_open3d(monkeypatch, decimate):
    """Stand in for Open3D, which is not everywhere."""
    module = types.ModuleType("open3d")

    class TriangleMesh:
        def __init__(self, vertices, triangles):
            self.vertices, self.triangles = vertices, triangles

        def simplify_quadric_decimation(self, count):
            return TriangleMesh(*decimate(self.vertices, self.triangles, count))

    module.geometry = types.SimpleNamespace(TriangleMesh=TriangleMesh)
    module.utility = types.SimpleNamespace(Vector3dVector=np.array, Vector3iVector=np.array)
    monkeypatch.setitem(sys.modules, "open3d", module)


def test_simplified__vertices_get_back_their_texture_coordinates(monkeypatch):
    surface, _ = spiral(1.2, holes=True)
    whole = mesh_of(surface)

    def keep_some(vertices, triangles, count):
        return np.concatenate([vertices, [[9e4, 9e4, 9e4]]]), np.concatenate(
            [triangles[:count], [[0, 1, len(vertices)]]]
        )

    fake_open3d(monkeypatch, keep_some)
    mesh = simplified(surface, 30)
    assert np.array_equal(mesh.triangles, whole.triangles[:30])  # the one that left is dropped
    assert np.allclose(mesh.uv, whole.uv, atol=1e-5)
    assert np.allclose(mesh.normals, whole.normals)


def test_simplified__says_that_open3d_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "open3d", None)
    path = spiral(1.2)[0].save(tmp_path / "trace")
    assert run_tracer("convert", "to-mesh", path, tmp_path / "m.ply", "--triangles", 100) == 2
    assert "or decimate on the grid with --every" in capsys.readouterr().err


def test_read_mesh__says_what_is_wrong(tmp_path):
    for name, text in (
        ("a.obj", "v 1 2 3\nf 1 1 1\n"),
        ("b.ply", "ply\nformat ascii 1.0\n"),
        ("c.obj", "f 1/1 1/1\n"),
    ):
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
