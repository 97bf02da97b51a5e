"""Draw docs/images/seed-acceptance.png: patches in a slice, and how scans decide where one stops.

    python -m benchmarks.draw_growth

Left, a slice of the prediction of a hard phantom with all patches of some random seeds. Right, one
of them where its sheet merges with the next: the runs of sheet that scans across it find, at some
vertices and at the place where the next vertex would be.
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.first_light import COLOURS, LARGEST_PNG, draw_slice
from benchmarks.growth_inputs import ROOT, phantom
from tracer.check.pictures import crossings
from tracer.distance_field import DistanceField
from tracer.kernels.sheet_probe import scan_across
from tracer.seed import seed
from tracer.seed_params import SeedParams
from tracer.surface import Surface
from tracer.volume import Volume

OUT = ROOT / "docs" / "images" / "seed-acceptance.png"
EDGE = 480  # pixels of a square panel
WINDOW = 96  # voxels that the right panel shows
Z = 192
SLICE_ZOOM = 1.75  # pixels per voxel of the left panel
GREY = np.array([16, 112], np.uint8)  # no sheet, sheet
GREEN, RED, YELLOW = (90, 235, 90), (255, 70, 60), (255, 225, 60)


def find_stops(
    field: DistanceField, patches: list[Surface], params: SeedParams
) -> list[tuple[float, int, np.ndarray, np.ndarray]]:
    """Return where patches end at a merger in the slice: score, patch, end, direction outward."""
    found = []
    for number, patch in enumerate(patches):
        lines = crossings(patch, 2, Z)
        if len(lines) < 8:
            continue
        ends = lines.reshape(-1, 3)[:, :2]
        middle = ends.mean(axis=0)
        tip = ends[np.argmax(((ends - middle) ** 2).sum(axis=1))]
        near = ends[np.linalg.norm(ends - tip, axis=1) < 40]
        direction = np.linalg.svd(near - near.mean(axis=0))[2][0]
        direction *= np.sign((tip - near.mean(axis=0)) @ direction)
        limit = params.thickness_factor * patch.meta["sheet_thickness_vx"] + 1.0
        runs = scans_at(field, tip + params.step_size * direction, direction)
        back = scans_at(field, tip - params.step_size * direction, direction)
        thick = sum(run[1] > limit for run in runs)
        clean = sum(run[1] <= limit for run in back)
        span = min(float(np.ptp(ends, axis=0).max()), 80.0)
        found.append((thick + 0.5 * clean + span / 40.0, number, tip, direction))
    return sorted(found, key=lambda item: -item[0])


def scans_at(
    field: DistanceField, at: np.ndarray, direction: np.ndarray
) -> list[tuple[np.ndarray, float, np.ndarray]]:
    """Return the runs that scans find: middle, thickness and direction across."""
    across = np.array([-direction[1], direction[0]])
    runs = []
    for offset in (-8.0, 0.0, 8.0):  # the members of the ring of nine that lie in the slice
        x, y = at + offset * direction
        field.ensure_box((x - 16, y - 16, Z - 2), (x + 16, y + 16, Z + 2))
        scan = scan_across(field.view(), x, y, float(Z), across[0], across[1], 0.0, 10.0)
        if scan.found:
            runs.append((np.array([x, y]) + scan.centre * across, scan.thickness, across))
    return runs


def draw_stop(
    sheet: np.ndarray, field: DistanceField, patch: Surface, tip: np.ndarray, direction: np.ndarray
) -> Image.Image:
    """Return the right panel."""
    params = SeedParams()
    limit = params.thickness_factor * patch.meta["sheet_thickness_vx"] + 1.0
    low = np.clip(np.round(tip).astype(int) - WINDOW // 2, 0, sheet.shape[0] - WINDOW)
    zoom = EDGE / WINDOW
    part = GREY[sheet[low[1] : low[1] + WINDOW, low[0] : low[0] + WINDOW].astype(int)]
    picture = Image.fromarray(part).convert("RGB").resize((EDGE, EDGE), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)

    def place(point: np.ndarray) -> tuple[float, float]:
        x, y = (point - low + 0.5) * zoom
        return float(x), float(y)

    def dot(point: np.ndarray, colour: tuple[int, int, int], outline: bool) -> None:
        x, y = place(point)
        box = (x - 5, y - 5, x + 5, y + 5)
        pen.ellipse(box, outline=colour, width=2) if outline else pen.ellipse(box, fill=colour)

    lines = crossings(patch, 2, Z)[..., :2]
    for line in lines:
        pen.line([place(end) for end in line], fill=YELLOW, width=3)
    candidate = tip + params.step_size * direction
    ends = lines.reshape(-1, 2)
    inner = ends[np.argmin(np.linalg.norm(ends - (tip - 20.0 * direction), axis=1))]
    for at, is_new in ((inner, False), (candidate, True)):
        for middle, thickness, across in scans_at(field, at, direction):
            half = 0.5 * thickness * across
            colour = RED if thickness > limit else GREEN
            pen.line([place(middle - half), place(middle + half)], fill=colour, width=3)
        dot(at, YELLOW, is_new)
    return picture


def crop_middle(patches: list[Surface]) -> np.ndarray:
    """Return the middle of what is seen of the patches in the slice."""
    lines = np.concatenate([crossings(patch, 2, Z)[..., :2] for patch in patches])
    ends = lines.reshape(-1, 2)
    return 0.5 * (ends.min(axis=0) + ends.max(axis=0))


def main() -> None:
    """Draw the picture."""
    given = phantom("hard", 384)
    volume = Volume.open(given.prediction)
    params = SeedParams(generations=30, min_area_cm=0.02, rng_seed=1)
    with tempfile.TemporaryDirectory() as folder:
        result = seed(volume, Path(folder) / "paths", params, count=120)
        patches = [Surface.load(Path(folder) / "paths" / name) for name in result.names]
    sheet = volume.read(0, (Z, 0, 0), (Z + 1, *volume.shape_zyx[1:]))[0] >= params.threshold
    field = DistanceField(volume)
    score, number, tip, direction = find_stops(field, patches, params)[0]
    right = draw_stop(sheet, field, patches[number], tip, direction)
    canvas = Image.new("RGB", (2 * EDGE + 8, EDGE), "white")
    whole = draw_slice(GREY[sheet.astype(int)], patches, 2, Z, SLICE_ZOOM, COLOURS)
    middle = crop_middle(patches)
    corner = np.clip(np.round(middle * SLICE_ZOOM) - EDGE // 2, 0, whole.width - EDGE).astype(int)
    pen = ImageDraw.Draw(whole)
    box = [float(v + s * 0.5 * WINDOW) * SLICE_ZOOM for s in (-1, 1) for v in tip]
    pen.rectangle(box, outline="white")
    canvas.paste(whole.crop((*corner, *(corner + EDGE))), (0, 0))
    canvas.paste(right, (EDGE + 8, 0))
    OUT.parent.mkdir(exist_ok=True)
    canvas.quantize(40, dither=Image.Dither.NONE).save(OUT, optimize=True)
    size = OUT.stat().st_size
    if size > LARGEST_PNG:
        raise ValueError(f"{OUT} has {size} bytes; make the picture smaller")
    print(f"{OUT}: {len(patches)} patches, {size} bytes, score {score:g} at {tip.round(1)}, z {Z}")


if __name__ == "__main__":
    main()
