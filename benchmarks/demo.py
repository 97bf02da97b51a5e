"""`make demo`: a scroll with hidden text, unrolled by the same commands that a user types.

    python -m benchmarks.demo OUT

Makes a phantom, grows patches, unrolls them, renders layers, and ends with one picture:
OUT/overview.png.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tracer.distance_field import DistanceField
from tracer.phantom.legibility import measure_legibility
from tracer.phantom.truth import Truth
from tracer.render import render_layers
from tracer.render.params import RenderParams
from tracer.surface import Surface
from tracer.tif import read_tif
from tracer.volume import Volume

SIZE = 384
TEXT = "PHILODEMUS"
LAYERS = 9
INK_LAYERS = "3:6"  # the middle three: ink lies on the recto, which is what the surface follows
PANEL = 512  # pixels per side of a square panel
LABEL = 18  # pixels above a panel
COLOURS = ((255, 90, 60), (80, 200, 255), (255, 220, 60), (120, 255, 120), (230, 120, 255))


def run(*arguments: object) -> None:
    """Run one tracer command and show it."""
    words = [str(argument) for argument in arguments]
    print("\n$ tracer " + " ".join(words), flush=True)
    subprocess.run([sys.executable, "-m", "tracer.cli.main", *words], check=True)


def pipeline(out: Path, workers: int) -> None:
    """Run the commands of the demo."""
    scroll, paths = out / "scroll", out / "paths"
    prediction = scroll / "prediction.zarr"
    params = out / "seed.json"
    run("phantom", scroll, "--size", SIZE, "--level", "normal", "--text", TEXT)
    params.write_text(
        json.dumps(
            {"cache_root": str(out / "cache"), "generations": 40, "min_area_cm": 0.01}, indent=2
        )
    )
    common = ("--rng-seed", 1, "--workers", workers)
    run("seed", prediction, paths, params, "--count", 16, *common)
    run("expand", prediction, paths, params, "--coverage", 0.93, "--count", 240, *common)
    run("unroll", paths, out / "unrolled", "--prediction", prediction)
    run(
        *("render", scroll / "ct.zarr", out / "layers", out / "unrolled"),
        *("--layers", LAYERS, "--composite", "mean", "--composite-range", INK_LAYERS),
        *("--threads", workers),
    )
    run("score", out / "unrolled", "--truth", scroll)


def draw_surfaces(picture: Image.Image, surfaces: list[Surface], z: float, zoom: float) -> None:
    """Draw where grid rows cross a slice: vertices next to it, joined along the row."""
    pen = ImageDraw.Draw(picture)
    for number, surface in enumerate(surfaces):
        points, valid = surface.points_xyz, surface.valid
        colour = COLOURS[number % len(COLOURS)]
        for col in range(points.shape[1] - 1):
            line = []
            for c in (col, col + 1):
                usable = np.flatnonzero(valid[:, c])
                if len(usable) < 2:
                    break
                heights = points[usable, c, 2]
                order = np.argsort(heights)
                if not heights[order[0]] <= z <= heights[order[-1]]:
                    break
                x, y = (np.interp(z, heights[order], points[usable[order], c, a]) for a in range(2))
                line.append((x * zoom, y * zoom))
            if len(line) == 2 and np.hypot(*np.subtract(*line)) < 2.5 * surface.step * zoom:
                pen.line(line, fill=colour, width=2)


def panel(image: np.ndarray, title: str, size: tuple[int, int]) -> Image.Image:
    """Return an image with a title above it."""
    out = Image.new("RGB", (size[0], size[1] + LABEL), "white")
    out.paste(Image.fromarray(image).convert("RGB").resize(size), (0, LABEL))
    ImageDraw.Draw(out).text((4, 3), title, fill="black")
    return out


def overview(out: Path) -> Path:
    """Write the picture: slice with patches, distance field, unrolled surface, text."""
    scroll = out / "scroll"
    ct = Volume.open(scroll / "ct.zarr")
    nz, ny, nx = ct.shape_zyx
    z = nz // 2
    field = DistanceField(Volume.open(scroll / "prediction.zarr"), cache_root=out / "cache")
    ys, xs = np.mgrid[0:ny:1.0, 0:nx:1.0]
    grid = np.stack([xs, ys, np.full_like(xs, z)], axis=-1)
    signed = field.sample(grid)
    ramp = np.clip((signed + field.cap) / (2.0 * field.cap), 0.0, 1.0)
    colours = np.stack([255 * (1 - ramp), 120 * (1 - np.abs(2 * ramp - 1)), 255 * ramp], axis=-1)
    ct_slice = ct.read(0, (z, 0, 0), (z + 1, ny, nx))[0]
    square = (PANEL, PANEL)
    patches = [Surface.load(path) for path in sorted((out / "paths").glob("auto_grown_*"))]
    with_patches = panel(ct_slice, f"CT slice {z} with {len(patches)} patches", square)
    drawing = Image.fromarray(ct_slice).convert("RGB").resize(square)
    draw_surfaces(drawing, patches, z, PANEL / nx)
    with_patches.paste(drawing, (0, LABEL))
    unrolled = Surface.load(out / "unrolled")
    with_sheet = panel(ct_slice, "the unrolled surface in the same slice", square)
    drawing = Image.fromarray(ct_slice).convert("RGB").resize(square)
    draw_surfaces(drawing, [unrolled], z, PANEL / nx)
    with_sheet.paste(drawing, (0, LABEL))
    distance = panel(colours.astype(np.uint8), "signed distance to the predicted sheet", square)
    layer = read_tif(out / "layers" / "mean.tif")
    width = 3 * PANEL
    rows = max(1, round(layer.shape[0] * width / layer.shape[1]))
    flat = panel(
        stretch(layer),
        "unrolled and rendered: mean of the three layers at the recto",
        (width, rows),
    )
    canvas = Image.new("RGB", (width, PANEL + LABEL + flat.height), "white")
    for k, item in enumerate((with_patches, with_sheet, distance)):
        canvas.paste(item, (k * PANEL, 0))
    canvas.paste(flat, (0, PANEL + LABEL))
    path = out / "overview.png"
    canvas.save(path)
    return path


def report_text(out: Path) -> None:
    """Say how well the text can be read, beside what rendering the true surface gives."""
    truth = Truth.load(out / "scroll")
    unrolled = Surface.load(out / "unrolled")
    found = measure_legibility(read_tif(out / "layers" / "mean.tif"), unrolled, truth)
    first, end = (int(part) for part in INK_LAYERS.split(":"))
    true_surface = truth.recto_surface(10.0)
    ct = Volume.open(out / "scroll" / "ct.zarr")
    true_layers = render_layers(ct, true_surface, RenderParams(layers=LAYERS))
    best = measure_legibility(true_layers[first:end].mean(axis=0), true_surface, truth)
    print(
        f"\ntext: correlation with the true ink {found.correlation:.3f} where the surface is; "
        f"rendering the true surface gives {best.correlation:.3f}: "
        f"{found.correlation / best.correlation:.3f} of it (covered: {found.coverage:.3f})"
    )


def stretch(image: np.ndarray) -> np.ndarray:
    """Return an image with its 2nd to 99.5th percentile spread over all greys."""
    seen = image[image > 0]
    low, high = np.percentile(seen, (2, 99.5)) if seen.size else (0, 255)
    return np.clip((image - low) * (255.0 / max(high - low, 1.0)), 0, 255).astype(np.uint8)


def main(arguments: list[str]) -> None:
    """Run the demo into the folder named on the command line."""
    out = Path(arguments[0] if arguments else "demo")
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    started = time.monotonic()
    pipeline(out, workers=2)
    path = overview(out)
    report_text(out)
    print(f"\n{time.monotonic() - started:.0f} s; look at {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
