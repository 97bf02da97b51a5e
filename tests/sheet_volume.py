"""A small prediction with three bent sheets whose exact place is known, and patches grown in it."""

import json
from pathlib import Path

import numpy as np

from tracer.seed_params import SeedParams
from tracer.surface import Surface
from tracer.volume_writer import VolumeWriter

SHAPE_ZYX = (128, 160, 160)
VOXEL_SIZE_UM = 7.91
HALF_THICKNESS = 2.0
RADII = (130.0, 146.0, 162.0)  # of the sheets around AXIS_XY, before they are rippled
AXIS_XY = (-80.0, 80.0)
MERGER_XYZ = (56.0, 110.0, 40.0)  # a ball that fills the gap between the first two sheets
MERGER_RADIUS = 11.0
SHEET, HALO = 255, 120


def _ripple(y, z):
    return 3.0 * np.sin(z / 20.0) + 2.0 * np.sin(y / 15.0)


def sheet_offsets(points_xyz):
    """Return the signed distances of points to the mid-lines of all sheets, shape (..., sheets)."""
    x, y, z = np.moveaxis(np.asarray(points_xyz, float), -1, 0)
    radius = np.hypot(x - AXIS_XY[0], y - AXIS_XY[1])
    return (radius - _ripple(y, z))[..., None] - np.array(RADII)


def on_sheet(number, y, z):
    """Return the point of a sheet at y and z."""
    radius = RADII[number] + _ripple(y, z)
    return (float(np.sqrt(radius**2 - (y - AXIS_XY[1]) ** 2) + AXIS_XY[0]), float(y), float(z))


def make_prediction(path: Path, shape_zyx=SHAPE_ZYX) -> Path:
    """Write the prediction: sheets with a halo below the threshold, and one merger."""
    z, y, x = np.indices(shape_zyx)
    points = np.stack([x, y, z], axis=-1)
    nearest = np.abs(sheet_offsets(points)).min(axis=-1)
    voxels = np.where(nearest <= HALF_THICKNESS + 1.5, HALO, 0).astype(np.uint8)
    voxels[nearest <= HALF_THICKNESS] = SHEET
    voxels[((points - MERGER_XYZ) ** 2).sum(axis=-1) < MERGER_RADIUS**2] = SHEET
    return _write(path, voxels)


def make_ribbon(path: Path) -> Path:
    """Write a prediction of one long wavy sheet that passes through six chunks along y."""
    z, y, x = np.indices((48, 768, 64))
    middle = 32.0 + 8.0 * np.sin(y / 40.0) + 3.0 * np.sin(z / 12.0)
    return _write(path, np.where(np.abs(x - middle) <= 2.5, SHEET, 0).astype(np.uint8))


def _write(path, voxels):
    writer = VolumeWriter.create(path, voxels.shape, np.uint8, VOXEL_SIZE_UM, chunk=64)
    writer.write((0, 0, 0), voxels)
    return writer.finish("max")


def small_params(**changes) -> SeedParams:
    """Return parameters of a small patch that is kept whatever its size."""
    values = {"step_size": 8.0, "generations": 8, "min_area_cm": 0.0, "rng_seed": 7}
    return SeedParams(**(values | changes))


def patch_content(directory: Path) -> dict:
    """Return everything about a patch but its name and the time it took."""
    content = {p.name: p.read_bytes() for p in sorted(directory.glob("*.tif"))}
    meta = json.loads((directory / "meta.json").read_text())
    assert meta.pop("uuid") == directory.name
    assert meta.pop("elapsed_time_s") > 0.0
    content["meta.json"] = meta
    return content


def contents_by_seed(paths: Path) -> dict:
    """Return the content of all patches of a collection by the item they were grown for."""
    contents = [patch_content(p.parent) for p in sorted(paths.glob("[!.]*/meta.json"))]
    by_item = {content["meta.json"]["item"]: content for content in contents}
    assert len(by_item) == len(contents)
    return by_item


def sheet_of(surface: Surface) -> int:
    """Return the sheet that a patch lies on; fails where it is on more than one, or off it."""
    offsets = sheet_offsets(surface.points_xyz[surface.valid])
    sheets = np.abs(offsets).argmin(axis=-1)
    assert len(np.unique(sheets)) == 1, "the patch switches sheets"
    distances = np.abs(offsets[:, sheets[0]])
    assert np.median(distances) < 0.5
    assert distances.max() < HALF_THICKNESS + 1.0
    inside = (surface.points_xyz >= 0) & (surface.points_xyz <= np.array(SHAPE_ZYX[::-1]) - 1)
    assert inside[surface.valid].all(), "the patch leaves the volume"
    return int(sheets[0])
