import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unroll_cases import arc_of, patch, spiral, theta_of

from tracer.surface import Surface
from tracer.unroll import UnrollParams, unroll_collection, write_unrolled
from tracer.unroll.flat_patches import lay_out_patches
from tracer.unroll.output import REPORT
from tracer.unroll.patches import patch_directories
from tracer.unroll.sheet import Sheet
from tracer.unroll.slab_plan import Extents, plan_slabs
from tracer.unroll.slabs import suspects_of_collection
from tracer.unroll.stitch import Frame, Groups, Piece, merge_pieces

WHOLE = UnrollParams(step=10.0)
SLABS = UnrollParams(step=10.0, memory_gb=0.02)  # some 6000 vertices
TURN = 2 * np.pi
TOP = 400.0


def random_patches(n, *, jumping=(), keep=lambda theta, z: True):
    """Return patches at random places of a tall spiral."""
    rng = np.random.default_rng([3])
    found = []
    while len(found) < n:
        theta, z = rng.uniform(2.3 * TURN, 4.4 * TURN), rng.uniform(10.0, TOP - 10.0)
        if keep(theta, z):
            k = len(found)
            jump = int(k in jumping)
            angle = rng.uniform(0, 6)
            found.append(
                patch(
                    min(theta, 3.6 * TURN) if jump else theta,
                    z,
                    angle=angle,
                    jump=jump,
                    noise=0.1,
                    seed=k,
                    top=TOP,
                )
            )
    return found


def torn_below(theta, z):
    """In the lower half the sheet is torn in two."""
    return z > 260 or abs(theta - 3.3 * TURN) > 0.35 * TURN


def save(surfaces, paths):
    for surface in surfaces:
        surface.save(paths / surface.meta["uuid"])
    return patch_directories(paths)


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    return save(random_patches(220, jumping=(40, 90)), tmp_path_factory.mktemp("slabs") / "paths")


@pytest.fixture(scope="module")
def in_slabs(directories):
    return unroll_collection(directories, SLABS)


def test_plan_slabs__one_where_all_fits(directories):
    extents = Extents.read(directories)
    assert plan_slabs(extents, 1e9) == [(-np.inf, np.inf)]


def test_plan_slabs__neighbours_overlap_and_nothing_is_left_out(directories):
    extents = Extents.read(directories)
    slabs = plan_slabs(extents, 6000)
    assert len(slabs) >= 2
    assert slabs[0][0] == -np.inf
    assert slabs[-1][1] == np.inf
    for (_, below), (above, _) in itertools.pairwise(slabs):
        assert below - above == pytest.approx(80.0)
    for low, high in slabs[1:-1]:
        assert high - low >= 159.9


def test_extents__without_metadata_the_patch_is_read(directories, tmp_path):
    surface = patch(3 * TURN, 80.0, seed=1)
    path = surface.save(tmp_path / "paths/one")
    known = Extents.read([path])
    meta = json.loads((path / "meta.json").read_text())
    del meta["area_vx2"]
    (path / "meta.json").write_text(json.dumps(meta))
    read = Extents.read([path])
    assert read.vertices[0] == surface.valid.sum()
    assert known.vertices[0] == pytest.approx(read.vertices[0], rel=0.2)
    np.testing.assert_allclose(known.z, read.z, atol=1e-3)


def test_unroll_collection__slabs_give_one_surface_on_the_sheet(in_slabs):
    assert in_slabs.counts()["slabs"] >= 2
    (unrolled,) = in_slabs.components
    there = unrolled.state > 0
    points = unrolled.sheet.points_xyz[there]
    theta = theta_of(points)
    distance = np.linalg.norm(points - spiral(theta, points[:, 2]), axis=1)
    assert np.median(distance) < 0.2
    assert np.percentile(distance, 99) < 2.0
    turns = unrolled.sheet.winding[there] - theta / TURN
    assert np.ptp(turns) < 0.1
    edges = np.linalg.norm(np.diff(unrolled.sheet.points_xyz, axis=0), axis=-1)
    both = there[1:] & there[:-1]
    assert np.median(np.abs(edges[both] / 10.0 - 1.0)) < 0.03
    assert edges[both].max() < 1.7 * 10.0


def test_unroll_collection__slabs_agree_with_one_solve(directories, in_slabs):
    whole = unroll_collection(directories, WHOLE)
    assert "slabs" not in whole.counts()
    ours, theirs = in_slabs.counts(), whole.counts()
    assert ours["patches"] == theirs["patches"]
    assert ours["vertices"] == theirs["vertices"]
    assert ours["patches_cut"] == theirs["patches_cut"] == 2
    assert ours["nodes_data"] == pytest.approx(theirs["nodes_data"], rel=0.03)


def test_unroll_collection__slabs_are_deterministic(directories, in_slabs):
    again = unroll_collection(directories, SLABS)
    np.testing.assert_array_equal(
        again.components[0].sheet.points_xyz, in_slabs.components[0].sheet.points_xyz
    )


def test_write_unrolled__slabs_report_jumps_members_and_outlines(in_slabs, tmp_path):
    (path,) = write_unrolled(in_slabs, tmp_path / "flat", SLABS)
    report = json.loads((path / REPORT / "suspects.json").read_text())
    jumps = {s["patch"] for s in report["suspects"] if s["kind"] == "jump"}
    assert jumps == {"patch_040", "patch_090"}
    assert all((path / REPORT / s["picture"]).exists() for s in report["suspects"])
    (members,) = report["components"]
    assert len(members["patches"]) == 220
    assert (path / REPORT / "plane_confidence.png").exists()


def test_unroll_collection__groups_that_meet_further_up_become_one(tmp_path):
    directories = save(random_patches(240, keep=torn_below), tmp_path / "paths")
    result = unroll_collection(directories, SLABS)
    assert result.counts()["slabs"] >= 2
    unrolled = result.components[0]
    there = unrolled.state == 100
    points = unrolled.sheet.points_xyz[there]
    low = points[:, 2] < 150
    theta = theta_of(points)
    assert (theta[low] < 2.9 * TURN).any()
    assert (theta[low] > 3.7 * TURN).any()
    assert np.ptp(unrolled.sheet.winding[there] - theta / TURN) < 0.1


@pytest.mark.parametrize("memory_gb", [8.0, 0.02])
@pytest.mark.parametrize("keep", [lambda theta, z: True, torn_below])
def test_lay_out_patches__gives_turns_arc_lengths_and_jumps(tmp_path, memory_gb, keep):
    jumping = (40, 90) if keep is not torn_below else ()
    paths = tmp_path / "paths"
    directories = save(random_patches(220, jumping=jumping, keep=keep), paths)
    surfaces = {path.name: Surface.load(path) for path in directories}
    params = UnrollParams(memory_gb=memory_gb)
    flat, suspects = lay_out_patches(paths, surfaces, params)
    assert {s.patch for s in suspects if s.kind == "jump"} == {f"patch_{k:03}" for k in jumping}
    turns, arcs, heights, known, everything = [], [], [], 0, 0
    for name, surface in surfaces.items():
        there = surface.valid & (flat.component[name] == 0)
        assert np.array_equal(there, np.isfinite(flat.winding[name]) & (flat.component[name] == 0))
        points, uv = surface.points_xyz[there].astype(np.float64), flat.uv[name][there]
        theta = theta_of(points)
        turns.append(flat.winding[name][there] - theta / TURN)
        arcs.append(uv[:, 0] - arc_of(theta))
        heights.append(uv[:, 1] - points[:, 2])
        known, everything = known + there.sum(), everything + surface.valid.sum()
    assert known > 0.97 * everything
    whole = np.round(np.concatenate(turns))
    assert (whole == np.median(whole)).mean() > 0.998
    for off in (arcs, heights):
        all_off = np.concatenate(off)
        assert np.percentile(np.abs(all_off - np.median(all_off)), 95) < 6.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=12))
def test_groups__joined_frames_agree_with_where_groups_are(pairs):
    places = [Frame(3 * k - 5, 20.0 * k * k, -40.0 * k) for k in range(8)]
    groups = Groups()
    for _ in places:
        groups.add()
    for a, b in pairs:
        if groups.find(a)[0] != groups.find(b)[0]:
            one, other = places[a], places[b]
            groups.join(a, b, Frame(other.turns - one.turns, other.u - one.u, other.v - one.v))
    for group, place in enumerate(places):
        root, frame = groups.find(group)
        at = places[root]
        assert (frame.turns, frame.u, frame.v) == (
            place.turns - at.turns,
            place.u - at.u,
            place.v - at.v,
        )


def flat(first, last, *, off=0.0, turns=0):
    """Return a plane sheet with rows of z from `first` to `last`, voxels."""
    v, u = np.meshgrid(np.arange(first, last, 10.0), np.arange(0.0, 50.0, 10.0), indexing="ij")
    none = np.zeros(0, np.int64)
    return Sheet(
        points_xyz=np.stack([u, np.full_like(u, off), v], axis=-1),
        winding=u / 100 - turns,
        confidence=np.ones(u.shape, np.float32),
        agreeing=np.ones(u.shape, np.float32),
        origin_uv=(0.0, first),
        step=10.0,
        outliers=none,
        samples=none,
    )


@pytest.mark.parametrize("off", [1.0, 30.0])
def test_merge_pieces__fades_where_both_agree_and_keeps_one_where_not(off):
    groups = Groups()
    lower, upper = groups.add(), groups.add()
    groups.join(lower, upper, Frame(turns=2))
    merged = merge_pieces(
        [
            Piece(group=lower, sheet=flat(0, 70), z_ramps=(0.0, 0.0, 40.0, 70.0)),
            Piece(group=upper, sheet=flat(40, 100, off=off, turns=2), z_ramps=(40.0, 70.0, 90, 90)),
        ],
        groups,
    )
    assert merged.winding.shape == (10, 5)
    np.testing.assert_allclose(merged.winding, np.broadcast_to(np.arange(5) / 10, (10, 5)))
    y = merged.points_xyz[:, 0, 1]
    assert y[0] == 0.0
    assert y[-1] == off
    assert (np.diff(y) >= 0).all()
    if off < 4.0:
        assert ((y[5:7] > 0) & (y[5:7] < off)).all()
    else:
        assert set(y) == {0.0, off}


def test_suspects_of_collection__slabs_find_and_mask_the_jumps(tmp_path):
    directories = save(random_patches(220, jumping=(40, 90)), tmp_path / "paths")
    found, masked = suspects_of_collection(directories, SLABS, mask=True, pictures=False)
    assert {s.patch for s in found.suspects if s.kind == "jump"} == {"patch_040", "patch_090"}
    assert set(masked) >= {"patch_040", "patch_090"}
    again, _ = suspects_of_collection(directories, SLABS, pictures=False)
    assert not [s for s in again.suspects if s.kind == "jump"]
