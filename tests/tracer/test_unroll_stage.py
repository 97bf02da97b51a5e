import dataclasses

import numpy as np
import pytest
from array_volume import ArrayVolume
from unroll_cases import band_voxels, collection, patch, spiral, theta_of

from tracer.errors import CollectionError, TracerWarning
from tracer.surface import Surface
from tracer.unroll import Patches, UnrollParams, find_suspects, load_patches, unroll
from tracer.unroll.patches import APPROVED_WEIGHT, patch_directories
from tracer.unroll.suspects import mask_offending, offending_cells

PARAMS = UnrollParams(step=10.0)


def wrong_turns(result, component=0):
    """Return how many vertices lie on another wrap than the layout says."""
    solved = result.solved
    inside = solved.layout.component == component
    true = theta_of(solved.patches.points_xyz[inside].astype(float)) / (2 * np.pi)
    offset = np.round(solved.layout.winding[inside] - true)
    return int((offset != np.median(offset)).sum())


def off_sheet(unrolled):
    points = unrolled.sheet.points_xyz[unrolled.state > 0]
    return np.linalg.norm(points - spiral(theta_of(points), points[:, 2]), axis=1)


def is_torn(unrolled):
    """Return whether a grid edge of the surface crosses to another wrap."""
    theta = theta_of(unrolled.sheet.points_xyz)
    there = unrolled.state > 0
    return any(
        (np.abs(np.diff(theta, axis=axis))[both] > np.pi).any()
        for axis, both in ((0, there[1:] & there[:-1]), (1, there[:, 1:] & there[:, :-1]))
    )


@pytest.fixture(scope="module")
def clean():
    return unroll(Patches.from_surfaces(collection(90)), PARAMS)


def test_unroll__one_surface_over_three_turns_on_the_sheet(clean):
    (unrolled,) = clean.components
    distance = off_sheet(unrolled)
    assert wrong_turns(clean) == 0
    assert not is_torn(unrolled)
    assert np.median(distance) < 0.2
    assert np.percentile(distance, 99) < 2.0
    assert np.ptp(unrolled.sheet.winding[unrolled.state > 0]) > 2.8
    assert clean.counts()["touches_contradicting"] == 0


def test_unroll__winding_and_lengths_are_true(clean):
    (unrolled,) = clean.components
    there = unrolled.state == 100
    points = unrolled.sheet.points_xyz
    error = unrolled.sheet.winding[there] - theta_of(points[there]) / (2 * np.pi)
    assert np.ptp(error) < 0.08  # the estimated axis is a little off the true one
    for axis in (0, 1):
        length = np.linalg.norm(np.diff(points, axis=axis), axis=-1)
        assert np.nanmedian(np.abs(length / 10.0 - 1)) < 0.02


def test_unroll__covers_what_the_patches_cover(clean):
    (unrolled,) = clean.components
    patches = clean.solved.patches
    at = (clean.solved.plane.uv[np.unique(patches.quads)] - unrolled.sheet.origin_uv) / 10.0
    col, row = np.floor(at[np.isfinite(at[:, 0])]).astype(int).T
    inside = (unrolled.state[row, col] > 0) | (unrolled.state[row + 1, col + 1] > 0)
    assert inside.mean() > 0.99


def test_unroll__is_bit_identical_when_repeated(clean):
    again = unroll(Patches.from_surfaces(collection(90)), PARAMS)
    one, two = clean.components[0], again.components[0]
    np.testing.assert_array_equal(one.sheet.points_xyz, two.sheet.points_xyz)
    np.testing.assert_array_equal(one.state, two.state)


@pytest.mark.parametrize("jumping", [(3, 20, 41), tuple(range(0, 90, 4))])
def test_unroll__planted_jumps_are_cut_and_named(jumping):
    surfaces = collection(90, jumping=jumping)
    result = unroll(Patches.from_surfaces(surfaces), PARAMS)
    planted = {
        surface.name
        for surface in surfaces
        if (np.abs(np.diff(theta_of(surface.points_xyz), axis=1)) > np.pi)[
            surface.valid[:, 1:] & surface.valid[:, :-1]
        ].any()
    }
    suspects = find_suspects(result.solved, result.components)
    named = {suspect.patch for suspect in suspects if suspect.kind in ("jump", "tail")}
    assert len(planted) >= min(len(jumping), 3) - 1
    assert planted <= named
    assert wrong_turns(result) <= 5
    assert not is_torn(result.components[0])
    jump = next(suspect for suspect in suspects if suspect.kind == "jump")
    assert abs(jump.turns) == 1
    assert jump.residual > 200
    assert jump.cells


def test_unroll__halves_that_do_not_touch_are_two_surfaces():
    upper = collection(40, z=(10.0, 40.0), seed=2)
    lower = collection(40, z=(120.0, 150.0), seed=3)
    keep = [s for s in upper if s.bbox_xyz[1, 2] < 75] + [s for s in lower if s.bbox_xyz[0, 2] > 85]
    result = unroll(Patches.from_surfaces(keep), PARAMS)
    assert len(result.components) >= 2
    heights = [unrolled.sheet.points_xyz[..., 2] for unrolled in result.components[:2]]
    assert np.nanmax(heights[0]) < np.nanmin(heights[1]) or np.nanmax(heights[1]) < np.nanmin(
        heights[0]
    )
    assert any(s.kind == "component" for s in find_suspects(result.solved, result.components))


def test_unroll__components_are_related_by_facing_wraps():
    inner = collection(60, theta=(12.8, 20.0), seed=4)
    outer = collection(70, theta=(22.6, 31.0), seed=5)
    result = unroll(Patches.from_surfaces(inner + outer), PARAMS)
    assert wrong_turns(result) == 0
    assert result.solved.layout.component.max() == 0


def test_unroll__a_missing_region_is_filled_between_its_neighbours():
    surfaces = []
    for surface in collection(110, seed=6):
        theta = theta_of(surface.points_xyz)
        gone = (np.abs(theta - 22.0) < 0.5) & (np.abs(surface.points_xyz[..., 2] - 80) < 25)
        surfaces.append(dataclasses.replace(surface, valid=surface.valid & ~gone))
    result = unroll(Patches.from_surfaces(surfaces), PARAMS)
    (unrolled,) = result.components
    filled = unrolled.state == 80
    points = unrolled.sheet.points_xyz
    theta = theta_of(points)
    hole = filled & (np.abs(theta - 22.0) < 0.4) & (np.abs(points[..., 2] - 80) < 20)
    distance = np.linalg.norm(points[hole] - spiral(theta[hole], points[hole][:, 2]), axis=1)
    assert hole.sum() > 20
    assert np.median(distance) < 1.0
    assert distance.max() < 3.0


def test_unroll__one_patch_only():
    result = unroll(Patches.from_surfaces([patch(20.0, 80.0)]), PARAMS)
    (unrolled,) = result.components
    assert (unrolled.state == 100).sum() > 80
    assert off_sheet(unrolled)[unrolled.state[unrolled.state > 0] == 100].max() < 0.5


def test_unroll__patches_that_are_copies_of_one_another():
    result = unroll(Patches.from_surfaces([patch(20.0, 80.0)] * 3), PARAMS)
    assert len(result.components) == 1


def test_unroll__no_quad_is_an_error():
    line = Surface(points_xyz=np.ones((1, 5, 3)), valid=np.ones((1, 5), bool))
    with pytest.raises(CollectionError, match="four neighbouring"):
        unroll(Patches.from_surfaces([line]), PARAMS)


@pytest.mark.slow
def test_unroll__with_a_prediction_lies_on_its_middle_and_reaches_its_ends():
    moved = []
    for surface in collection(70, seed=8):  # every patch half a voxel or more off
        outward = surface.points_xyz - np.array([150, 150, 0], np.float32)
        outward[..., 2] = 0
        outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
        points = np.where(surface.valid[..., None], surface.points_xyz + 1.2 * outward, -1)
        moved.append(dataclasses.replace(surface, points_xyz=points))
    plain = unroll(Patches.from_surfaces(moved), PARAMS).components[0]
    pulled = unroll(
        Patches.from_surfaces(moved), PARAMS, prediction=ArrayVolume(band_voxels())
    ).components[0]
    assert np.median(off_sheet(plain)) > 0.9
    assert np.median(off_sheet(pulled)) < 0.25
    assert not is_torn(pulled)
    heights = pulled.sheet.points_xyz[pulled.state > 0][:, 2]
    assert heights.min() < 20
    assert heights.max() > 140


def write(folder, surfaces):
    for surface in surfaces:
        surface.save(folder / surface.name)


def test_load_patches__defective_unreadable_and_unrolled_ones_do_not_count(tmp_path):
    surfaces = collection(8)[:5]
    write(tmp_path, surfaces[:2])
    dataclasses.replace(surfaces[2], meta={"tags": {"defective": {}}}).save(tmp_path / "wrong")
    dataclasses.replace(surfaces[3], meta={"source": "tracer unroll"}).save(tmp_path / "result")
    surfaces[4].save(tmp_path / "torn")
    (tmp_path / "torn" / "x.tif").write_bytes(b"II*")
    with pytest.warns(TracerWarning, match="torn"):
        patches = load_patches(patch_directories(tmp_path))
    assert list(patches.names) == sorted(s.name for s in surfaces[:2])


def test_load_patches__approved_ones_weigh_more(tmp_path):
    surface = collection(3)[0]
    dataclasses.replace(surface, meta={"tags": {"approved": {}}}).save(tmp_path / "a")
    surface.save(tmp_path / "b")
    weights = load_patches(patch_directories(tmp_path)).weights
    assert weights.tolist() == [APPROVED_WEIGHT, 1.0]


def test_load_patches__empty_and_missing_collections_are_errors(tmp_path):
    with pytest.raises(CollectionError, match="no usable patch"):
        load_patches(patch_directories(tmp_path))
    with pytest.raises(CollectionError):
        patch_directories(tmp_path / "none")


def test_mask_offending__leaves_patches_without_jumps_and_keeps_the_mask_before(tmp_path):
    write(tmp_path, collection(90, jumping=(3, 20, 41, 60)))
    first = unroll(load_patches(patch_directories(tmp_path)), PARAMS)
    assert {s.kind for s in find_suspects(first.solved)} >= {"jump"}
    cells = offending_cells(first.solved)
    changed = mask_offending(first.solved, tmp_path)
    assert {name: len(set(cells[name])) for name in cells} == changed
    second = unroll(load_patches(patch_directories(tmp_path)), PARAMS)
    assert not [s for s in find_suspects(second.solved) if s.kind == "jump"]
    for name in changed:
        assert (tmp_path / name / "mask.none.backup").exists()
    again = mask_offending(first.solved, tmp_path)
    assert again == {}


def test_mask_offending__finer_mask_and_further_pages_are_kept(tmp_path):
    import tifffile

    from tracer.unroll.suspects import mask_cells

    surface = patch(20.0, 80.0)
    directory = surface.save(tmp_path / "p")
    rows, cols = surface.shape
    mask = np.full((2 * rows, 2 * cols), 255, np.uint8)
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4)
    with tifffile.TiffWriter(directory / "mask.tif") as writer:
        writer.write(mask, contiguous=False)
        writer.write(picture, contiguous=False)
    assert mask_cells(directory, [(1, 2)], (rows, cols)) == 1
    with tifffile.TiffFile(directory / "mask.tif") as tif:
        pages = [page.asarray() for page in tif.pages]
    assert (pages[0] == 0).sum() == 4
    assert (pages[0][2:4, 4:6] == 0).all()
    assert (pages[1] == picture).all()
    assert (tifffile.imread(directory / "mask.tif.backup", key=0) == 255).all()
    assert not Surface.load(directory).valid[1, 2]


@pytest.mark.parametrize("predicted", [False, True])
def test_unroll__goes_on_by_half_a_node_beyond_small_patches(predicted):
    """Two patches of a few nodes each: nothing can be proven, but partly covered cells count."""
    surfaces = [patch(3.1 * 2 * np.pi, 80.0, seed=k, angle=0.4 * k) for k in (0, 1)]
    params = UnrollParams(step=20.0)
    volume = ArrayVolume(band_voxels()) if predicted else None
    result = unroll(Patches.from_surfaces(surfaces), params, prediction=volume)
    (unrolled,) = result.components
    further = unrolled.state == 80
    assert further.sum() >= 5
    assert unrolled.sheet.confidence[further].max() <= 0.5
    known = unrolled.sheet.confidence[unrolled.state == 100]
    assert known.min() > 0.3
    points = unrolled.sheet.points_xyz[further]
    distance = np.linalg.norm(points - spiral(theta_of(points), points[:, 2]), axis=1)
    assert distance.max() < 4.0
    assert np.median(distance) < 1.2
    reach = np.linalg.norm(
        points[:, None] - np.concatenate([s.points_xyz[s.valid] for s in surfaces])[None], axis=-1
    ).min(axis=1)
    assert reach.max() < 0.8 * 20.0
