"""`make demo`: a scroll with hidden text, unrolled by the same commands that a user types.

    python -m benchmarks.demo OUT

Makes a phantom, hands it to ``tracer run``, and ends with what can be known because it is a
phantom: the figures of the surface against the truth, VC3D's metrics beside them, how well the text
can be read, and one picture, OUT/overview.png.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.pictures import LABEL, PANEL, panel, slice_panel, stretch
from tracer.distance_field import DistanceField
from tracer.phantom.legibility import measure_legibility
from tracer.phantom.truth import Truth
from tracer.point_collections import PointCollection, point_metrics
from tracer.render import render_layers
from tracer.render.params import RenderParams
from tracer.score import score_surfaces
from tracer.surface import Surface
from tracer.tif import read_tif
from tracer.volume import Volume
from tracer.winding import solve_winding

SIZE = 384
TEXT = "PHILODEMUS"
LAYERS = 9
INK_LAYERS = (3, 6)  # the middle three: ink lies on the recto, which is what the surface follows
RECTO_STEP = 10.0  # voxels between vertices of the true surface
ROWS_APART, RAYS = 4, 16  # of annotated points: every 40 voxels, 16 rays around
CONFIG = {
    "seeds": 16,
    "patches": 240,
    "coverage": 0.93,
    "layers": LAYERS,
    "seed": {"generations": 40, "min_area_cm": 0.01},
    "render": {"composite": "mean", "composite_range": "{}:{}".format(*INK_LAYERS)},
}


def run(*arguments: object) -> None:
    """Run one tracer command and show it."""
    words = [str(argument) for argument in arguments]
    print("\n$ tracer " + " ".join(words), flush=True)
    subprocess.run([sys.executable, "-m", "tracer.cli.main", *words], check=True)


def pipeline(out: Path, workers: int) -> None:
    """Run the commands of the demo."""
    scroll, config = out / "scroll", out / "config.json"
    run("phantom", scroll, "--size", SIZE, "--level", "normal", "--text", TEXT)
    config.write_text(json.dumps(CONFIG, indent=2) + "\n")
    run(
        *("run", scroll / "prediction.zarr", "--ct", scroll / "ct.zarr"),
        *("--out", out, "--config", config, "--workers", workers),
    )


def overview(out: Path) -> Path:
    """Write the picture: slice with patches, distance field, unrolled surface, text."""
    ct = Volume.open(out / "scroll/ct.zarr")
    nz, ny, nx = ct.shape_zyx
    z = nz // 2
    ct_slice = ct.read(0, (z, 0, 0), (z + 1, ny, nx))[0]
    patches = [Surface.load(path) for path in sorted((out / "paths").glob("auto_grown_*"))]
    unrolled = [Surface.load(out / "unrolled")]
    layer = read_tif(out / "layers/mean.tif")
    width = 3 * PANEL
    rows = max(1, round(layer.shape[0] * width / layer.shape[1]))
    title = "unrolled and rendered: mean of the three layers at the recto"
    flat = panel(stretch(layer), title, (width, rows))
    canvas = Image.new("RGB", (width, PANEL + LABEL + flat.height), "white")
    panels = (
        slice_panel(ct_slice, patches, z, f"CT slice {z} with {len(patches)} patches"),
        slice_panel(ct_slice, unrolled, z, "the unrolled surface in the same slice"),
        distance_panel(out, z),
    )
    for k, item in enumerate(panels):
        canvas.paste(item, (k * PANEL, 0))
    canvas.paste(flat, (0, PANEL + LABEL))
    path = out / "overview.png"
    canvas.save(path)
    return path


def distance_panel(out: Path, z: int) -> Image.Image:
    """Return the distance field of a slice: red in the sheet, blue far from it."""
    field = DistanceField(Volume.open(out / "scroll/prediction.zarr"), cache_root=out / "cache")
    _, ny, nx = field.shape_zyx
    ys, xs = np.mgrid[0:ny:1.0, 0:nx:1.0]
    signed = field.sample(np.stack([xs, ys, np.full_like(xs, z)], axis=-1))
    ramp = np.clip((signed + field.cap) / (2.0 * field.cap), 0.0, 1.0)
    colours = np.stack([255 * (1 - ramp), 120 * (1 - np.abs(2 * ramp - 1)), 255 * ramp], axis=-1)
    title = "signed distance to the predicted sheet"
    return panel(colours.astype(np.uint8), title, (PANEL, PANEL))


def true_points(truth: Truth) -> list[PointCollection]:
    """Return points of the true recto as people annotate them: along rays, wrap after wrap."""
    points, valid, theta, _ = truth.recto_grid(RECTO_STEP)
    winding = theta / (2.0 * np.pi)
    found = []
    for row in range(0, len(points), ROWS_APART):
        for ray in np.arange(RAYS) / RAYS:
            wraps = np.arange(np.ceil(winding[0] - ray), winding[-1] - ray)
            cols = np.searchsorted(winding, wraps + ray)
            cols = cols[valid[row, cols]]
            collection = PointCollection(
                name=f"row {row}, turn {ray:.3f}",
                points_xyz=points[row, cols],
                winding=winding[cols],
                is_absolute=True,
            )
            found.append(collection)
    return found


def report(out: Path) -> None:
    """Print the figures against the truth, VC3D's metrics, and how well the text can be read."""
    truth, surface = Truth.load(out / "scroll"), Surface.load(out / "unrolled")
    score = score_surfaces([surface], truth)
    winding = solve_winding(surface).values.astype(np.float64)
    points = point_metrics(surface, winding, true_points(truth))
    found = measure_legibility(read_tif(out / "layers/mean.tif"), surface, truth)
    recto = truth.recto_surface(RECTO_STEP)
    layers = render_layers(Volume.open(out / "scroll/ct.zarr"), recto, RenderParams(layers=LAYERS))
    best = measure_legibility(layers[slice(*INK_LAYERS)].mean(axis=0), recto, truth)
    ours = (
        ("coverage of the recto", f"{score.coverage:.3f}"),
        ("sheet switches, share of the area", f"{score.switch_rate:.4f}"),
        (
            "distance, median / p95, voxels",
            f"{score.distance_median:.2f} / {score.distance_p95:.2f}",
        ),
        (
            "distortion, lengths / areas",
            f"{score.length_distortion:.3f} / {score.area_distortion:.3f}",
        ),
        (
            "self-intersections / hole area",
            f"{score.self_intersections} / {score.hole_vx2:.0f} vx2",
        ),
        ("text, correlation with the ink", f"{found.correlation:.3f}"),
    )
    theirs = (
        ("in_surface_metric", f"{points.in_surface_metric:.3f}"),
        ("surface_missing_fraction", f"{points.surface_missing_fraction:.3f}"),
        ("winding_error_fraction", f"{points.winding_error_fraction:.4f}"),
        ("area", f"{score.area_cm2:.3f} cm2"),
        ("points asked", f"{points.points}"),
        ("text, of the true surface's render", f"{found.correlation / best.correlation:.3f}"),
    )
    print("\nagainst the truth" + " " * 37 + "as VC3D measures")
    for (name, value), (their_name, their_value) in zip(ours, theirs, strict=True):
        print(f"{name:36s} {value:16s} {their_name:36s} {their_value}")


def main(arguments: list[str]) -> None:
    """Run the demo into the folder named on the command line."""
    out = Path(arguments[0] if arguments else "demo")
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    started = time.monotonic()
    pipeline(out, workers=2)
    path = overview(out)
    report(out)
    print(f"\n{time.monotonic() - started:.0f} s; look at {path}, and at {out / 'report.html'}")


if __name__ == "__main__":
    main(sys.argv[1:])
