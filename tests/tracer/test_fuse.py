import dataclasses

import numpy as np
import pytest
from spirals import PITCH, STEP, spiral

from tracer.cli.main import main
from tracer.errors import NothingFoundError, ParamsError, SurfaceError
from tracer.fuse import FuseParams, Source, fuse, ground, load_sources
from tracer.fuse.ground import upsample
from tracer.fuse.sources import align
from tracer.surface import Surface
from tracer.tif import write_tif


def source(n_wraps=2.5, *, cols=slice(None), turned=False, shift=0.0, weight=1.0, **options):
    """Return a trace of a spiral, perhaps a part of it or one that runs and counts backwards."""
    surface, winding = spiral(n_wraps, **options)
    points, valid = surface.points_xyz[:, cols], surface.valid[:, cols]
    winding = winding[:, cols] + shift
    if turned:
        points, valid, winding = points[:, ::-1], valid[:, ::-1], -winding[:, ::-1]
    part = Surface(
        points_xyz=points.copy(), valid=valid.copy(), scale=surface.scale, meta={"uuid": "part"}
    )
    return Source(surface=part, winding=np.where(valid, winding, np.nan), weight=weight)


def off_the_spiral(points):
    """Return the distance of points from the spiral, voxels."""
    x, y = points[..., 0] - 500, points[..., 1] - 500
    turns = (np.hypot(x, y) - 60) / PITCH - np.arctan2(y, x) / (2 * np.pi)
    return np.abs(turns - np.round(turns)) * PITCH


def test_align__turns_and_shifts():
    first = source(cols=slice(0, 60))
    second = source(cols=slice(40, None), turned=True, shift=7.3)
    _, aligned = align([first, second])
    truth = source(cols=slice(40, None)).winding[:, ::-1]
    assert np.nanmax(np.abs(aligned.winding - truth)) < 0.02


def test_align__through_a_third_trace():
    parts = [source(cols=part) for part in (slice(0, 40), slice(60, None), slice(30, 70))]
    parts[1] = dataclasses.replace(parts[1], winding=parts[1].winding - 4.0)
    aligned = align(parts)
    assert np.nanmax(np.abs(aligned[1].winding - source(cols=slice(60, None)).winding)) < 0.02


def test_align__says_what_does_not_meet():
    with pytest.raises(NothingFoundError, match="meets no other trace"):
        align([source(cols=slice(0, 30)), source(cols=slice(40, None))])


def test_fuse__one_surface_from_parts_in_any_order():
    parts = [
        source(cols=slice(0, 60), noise=0.2),
        source(cols=slice(45, None), turned=True, shift=3.0),
    ]
    fused = fuse(parts, FuseParams())
    surface = fused.surface({})
    assert np.ptp(fused.column_winding) == pytest.approx(2.5, abs=0.1)
    assert np.median(off_the_spiral(surface.points_xyz[surface.valid])) < 0.3
    areas = surface.quad_areas()[surface.valid_quads] / STEP**2
    assert np.median(np.abs(areas - 1)) < 0.03
    assert surface.channels["winding"].shape == surface.shape
    assert surface.valid.mean() > 0.95


def test_fuse__holes_are_filled_on_the_sheet():
    whole, winding = spiral(2.5)
    valid = whole.valid.copy()
    valid[3:10, 30:38] = False
    holed = Surface(points_xyz=whole.points_xyz.copy(), valid=valid, scale=whole.scale)
    fused = fuse([Source(surface=holed, winding=winding)], FuseParams())
    surface = fused.surface({})
    filled = surface.channels["state"] == 80
    assert filled.sum() >= 40
    assert np.median(off_the_spiral(surface.points_xyz[filled])) < 1.0


@pytest.mark.parametrize("rows_left", [0, 1, 2])
def test_fuse__goes_on_where_a_trace_narrows(rows_left):
    whole, winding = spiral(2.5)
    valid = whole.valid.copy()
    valid[:, 30:50] = False
    valid[6 : 6 + rows_left, 30:50] = True
    narrow = Surface(points_xyz=whole.points_xyz.copy(), valid=valid, scale=whole.scale)
    narrow = Source(surface=narrow, winding=np.where(valid, winding, np.nan))
    full = fuse([Source(surface=whole, winding=winding)], FuseParams())
    fused = fuse([narrow], FuseParams())
    assert abs(fused.state.shape[1] - full.state.shape[1]) <= 1
    assert np.ptp(fused.column_winding) == pytest.approx(np.ptp(full.column_winding), abs=0.05)
    assert (fused.state[:, 32:48] > 0).mean() > 0.9
    assert np.nanmedian(off_the_spiral(fused.surface({}).points_xyz[fused.state == 80])) < 2.0


def test_fuse__is_deterministic():
    parts = [source(cols=slice(0, 60)), source(cols=slice(45, None))]
    first, second = (fuse(parts, FuseParams()).surface({}) for _ in range(2))
    assert first.points_xyz.tobytes() == second.points_xyz.tobytes()


@pytest.mark.parametrize("factor", [1, 2, 5])
def test_ground__has_the_scale_and_the_detail_of_its_source(factor):
    trace = source(noise=0.4)
    fused = fuse([trace], FuseParams(trace_mul=factor)).surface({})
    coarse = Source(surface=fused, winding=fused.channels["winding_exact"].astype(float))
    fine = ground(coarse, factor, [trace], {})
    assert fine.scale == pytest.approx((fused.scale[0] * factor,) * 2)
    assert fine.shape == tuple((n - 1) * factor + 1 for n in fused.shape)
    grounded = fine.channels["state"] == 100
    assert grounded[fine.valid].mean() > 0.8
    from tracer.spatial_index import SpatialIndex

    hits = SpatialIndex.from_surfaces({"trace": trace.surface}).query(fine.points_xyz[grounded], 2)
    assert len(hits) == grounded.sum()
    assert np.max(hits.distances) < 0.01


def test_upsample__meets_parabolas_and_keeps_holes():
    rows, cols = np.meshgrid(np.arange(7.0), np.arange(7.0), indexing="ij")

    def shape(r, c):
        return np.stack([c**2 - r, r * c, 0.5 * r**2 + c], axis=-1)

    coarse = shape(rows, cols)
    assert np.array_equal(upsample(coarse, 1), coarse)
    coarse[3, 3] = np.nan
    fine = upsample(coarse, 4)
    at = np.meshgrid(np.arange(25) / 4, np.arange(25) / 4, indexing="ij")
    there = np.isfinite(fine[..., 0])
    assert np.abs(fine - shape(*at))[there].max() < 1e-9
    expected = np.ones((25, 25), bool)
    expected[9:16, 9:16] = False
    assert np.array_equal(there, expected)


def test_ground__finds_the_right_wrap_behind_a_nearer_one():
    trace = source()
    fused = fuse([trace], FuseParams()).surface({})
    middle = fused.points_xyz[fused.valid][:, :2].mean(axis=0)
    outward = fused.points_xyz[..., :2] - middle
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    points = fused.points_xyz.copy()
    part = slice(40, 55)  # nearer to the next wrap than to its own
    points[:, part, :2] += 0.55 * PITCH * outward[:, part]
    moved = dataclasses.replace(fused, points_xyz=points)
    coarse = Source(surface=moved, winding=fused.channels["winding_exact"].astype(float))
    fine = ground(coarse, 1, [trace], {})
    assert (fine.channels["state"][:, part] == 100).mean() > 0.8
    off = np.linalg.norm(fine.points_xyz - fused.points_xyz, axis=-1)
    assert np.median(off[:, part]) < 0.1 * PITCH  # on its own wrap again


def test_ground__has_no_seam():
    trace = source()
    fused = fuse([trace], FuseParams(trace_mul=2)).surface({})
    moved = dataclasses.replace(fused, points_xyz=fused.points_xyz + np.float32([0, 0, 3]))
    half = source(cols=slice(0, 50))
    coarse = Source(surface=moved, winding=fused.channels["winding_exact"].astype(float))
    fine = ground(coarse, 4, [half], {})
    assert set(np.unique(fine.channels["state"][fine.valid])) == {80, 100}
    lengths = np.linalg.norm(np.diff(fine.points_xyz, axis=1), axis=-1)
    lengths = lengths[fine.valid[:, 1:] & fine.valid[:, :-1]]
    assert lengths.max() < 1.5 * 2 * STEP / 4


def test_ground__refuses_a_bad_factor():
    with pytest.raises(ParamsError, match="whole number"):
        ground(source(), 0, [source()], {})


def run_tracer(*arguments):
    """Return the exit status of a command."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code


def test_commands__fuse_and_ground(tmp_path, capsys):
    traces = []
    for k, cols in enumerate((slice(0, 60), slice(45, None))):
        part = source(cols=cols)
        traces.append(part.surface.save(tmp_path / f"trace{k}"))
        write_tif(traces[-1] / "winding.tif", part.winding.astype(np.float32))
    (tmp_path / "fuse.json").write_text('{"trace_mul": 2, "opt_w": 4}')
    triples = [word for trace in traces for word in (trace, trace / "winding.tif", 1.0)]
    assert run_tracer("fuse", tmp_path / "fuse.json", *triples, "-o", tmp_path / "out") == 0
    assert "opt_w" in capsys.readouterr().err
    (fused,) = (tmp_path / "out").glob("fuse_fill_*")
    assert Surface.load(fused).step == pytest.approx(2 * STEP)
    assert run_tracer("ground", fused, 2, *traces, "-o", tmp_path / "out") == 0
    (fine,) = (tmp_path / "out").glob("grounding_hr_*")
    assert Surface.load(fine).step == pytest.approx(STEP)
    assert "grounded" in capsys.readouterr().out
    assert run_tracer("fuse", *traces, "--weight", 1, "-o", tmp_path) == 2


def test_load_sources__says_what_is_missing(tmp_path):
    trace = source().surface.save(tmp_path / "trace")
    with pytest.raises(SurfaceError, match="run `tracer winding"):
        load_sources([(trace, None, 1.0)])
    write_tif(trace / "winding.tif", np.zeros(source().surface.shape, np.float32))
    with pytest.raises(SurfaceError, match="the same everywhere"):
        load_sources([(trace, None, 1.0)])
    write_tif(trace / "winding.tif", np.zeros((3, 4), np.float32))
    with pytest.raises(SurfaceError, match="shape"):
        load_sources([(trace, None, 1.0)])


def test_load_sources__crops_the_windings_of_vc3d(shared_data):
    path = next((shared_data / "vc3d" / "fuse").glob("*/meta.json")).parent
    with pytest.warns(UserWarning, match="larger than its surface by 4"):
        (fused,) = load_sources([(path, path / "winding.tif", 1.0)])
    assert fused.winding.shape == fused.surface.shape
