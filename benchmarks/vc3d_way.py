"""VC3D's way from a scroll to its text: expand, trace, winding, fuse, ground, render.

    python -m benchmarks.vc3d_way OUT [--phantom DIR] [--traces DIR DIR …]

Types the commands that a user of VC3D knows, in that order, on a phantom with hidden text, and ends
with one picture, OUT/overview.png, and with how well the text can be read. ``--phantom`` takes a
phantom that is there already, with its patches in ``paths`` if it has any. ``--traces`` begins with
these traces. The way of :mod:`benchmarks.demo` (unroll) needs none of this.
"""

import argparse
import json
import os
import resource
import shutil
import sys
import time
from pathlib import Path

import click
import numpy as np
from PIL import Image

from benchmarks.pictures import LABEL, PANEL, panel, slice_panel, stretch
from tracer.cli.main import tracer
from tracer.phantom.legibility import measure_legibility
from tracer.phantom.truth import Truth
from tracer.render import render_layers
from tracer.render.params import RenderParams
from tracer.surface import Surface
from tracer.tif import read_tif
from tracer.unroll.pictures import rainbow
from tracer.volume import Volume

SIZE = 384
TEXT = "PHILODEMUS"
LAYERS = 9
INK_LAYERS = (3, 6)  # the middle three: ink lies on the recto, which is what the surface follows
TRACE_MUL = 1  # steps of the traces between fused vertices
SCALE = 2  # of grounding
RECTO_STEP = 10.0  # voxels between vertices of the true surface that is rendered for comparison
USED_S: dict[str, float] = {}  # CPU seconds of each command


def run(*arguments: object) -> int:
    """Run one tracer command in this process, show it, and return its status."""
    words = [str(argument) for argument in arguments]
    print("\n$ tracer " + " ".join(words), flush=True)
    before = _cpu_s()
    try:
        status = tracer.main(args=words, prog_name="tracer", standalone_mode=False)
    except click.exceptions.Exit as stopped:
        status = stopped.exit_code
    USED_S[words[0]] = USED_S.get(words[0], 0.0) + _cpu_s() - before
    return status if isinstance(status, int) else 0


def _cpu_s() -> float:
    """Return the CPU seconds of this process and its workers."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in used)


def write(path: Path, values: dict[str, object]) -> Path:
    """Write a params file."""
    path.write_text(json.dumps(values, indent=2) + "\n")
    return path


def grow_patches(out: Path, scroll: Path, workers: int) -> Path:
    """Return the folder of patches, grown where there are none yet."""
    if (scroll / "paths").is_dir():
        return scroll / "paths"
    paths, prediction = out / "paths", scroll / "prediction.zarr"
    values = {"cache_root": str(out / "cache"), "generations": 40, "min_area_cm": 0.01}
    params = write(out / "seed.json", values)
    common = ("--rng-seed", 1, "--workers", workers)
    run("seed", prediction, paths, params, "--count", 16, *common)
    run("expand", prediction, paths, params, "--coverage", 0.93, "--count", 240, *common)
    return paths


def largest_patch(paths: Path) -> Path:
    """Return the patch of the largest area, which a person would begin with as well."""
    areas = {
        meta.parent: float(json.loads(meta.read_text()).get("area_vx2", 0.0))
        for meta in sorted(paths.glob("*/meta.json"))
    }
    return max(areas, key=lambda path: (areas[path], path.name))


def trace_scroll(out: Path, scroll: Path, paths: Path) -> list[Path]:
    """Return the trace from one patch towards both ends of the scroll."""
    params = write(out / "trace.json", {"step": 2, "src_step": 20})
    run("trace", scroll / "prediction.zarr", paths, out / "traces", params, largest_patch(paths))
    return sorted((out / "traces").glob("auto_trace_*"))


def fuse_and_ground(out: Path, traces: list[Path]) -> tuple[Path, Path]:
    """Return the fused and the grounded surface of some traces."""
    if run("winding", *traces):
        print("a trace jumps between wraps (above); it is fused as it is")
    params = write(out / "fuse.json", {"trace_mul": TRACE_MUL, "wind_th": 0.3})
    triples = [word for trace in traces for word in (trace, trace / "winding.tif", 1.0)]
    run("fuse", params, *triples, "--out", out / "fused")
    (fused,) = (out / "fused").glob("fuse_fill_*")
    pairs = [word for trace in traces for word in (trace, trace / "winding.tif")]
    target = out / "grounded"
    run("ground", fused, fused / "winding_exact.tif", SCALE, *pairs, "--out", target)
    (grounded,) = target.glob("grounding_hr_*")
    return fused, grounded


def render(out: Path, scroll: Path, surface: Path, workers: int) -> np.ndarray:
    """Return the mean of the layers at the recto."""
    first, end = INK_LAYERS
    composite = ("--composite", "mean", "--composite-range", f"{first}:{end}")
    run(
        *("render", scroll / "ct.zarr", out / "layers", surface, "--layers", LAYERS),
        *(*composite, "--threads", workers),
    )
    return np.asarray(read_tif(out / "layers" / "mean.tif"))


def report(
    layer: np.ndarray, scroll: Path, named: dict[str, list[Path]], surface: Path
) -> dict[str, float]:
    """Print how good each stage's surfaces are, and whether the text can be read."""
    truth = Truth.load(scroll)
    for name, paths in named.items():
        print(f"\n{name}")
        run("score", *paths, "--truth", scroll)
    found = measure_legibility(layer, Surface.load(surface), truth)
    recto = truth.recto_surface(RECTO_STEP)
    layers = render_layers(Volume.open(scroll / "ct.zarr"), recto, RenderParams(layers=LAYERS))
    first, end = INK_LAYERS
    best = measure_legibility(layers[first:end].mean(axis=0), recto, truth)
    figures = {
        "text correlation": found.correlation,
        "text correlation, true surface": best.correlation,
        "of the true surface's": found.correlation / best.correlation,
        "sheet covered": found.coverage,
        **{f"{name}, cpu_s": seconds for name, seconds in USED_S.items() if name != "score"},
    }
    print()
    for name, value in figures.items():
        print(f"{name:32s} {value:10.3f}")
    return figures


def overview(out: Path, scroll: Path, traces: list[Path], surface: Path, layer: np.ndarray) -> Path:
    """Write the picture: traces, grounded surface, winding; below, the text."""
    ct = Volume.open(scroll / "ct.zarr")
    nz, ny, nx = ct.shape_zyx
    z = nz // 2
    slab = ct.read(0, (z, 0, 0), (z + 1, ny, nx))[0]
    grounded = Surface.load(surface)
    canvas = Image.new("RGB", (3 * PANEL, PANEL + LABEL), "white")
    drawn = (
        (f"{len(traces)} traces in slice {z}", [Surface.load(path) for path in traces]),
        ("fused and grounded", [grounded]),
    )
    for k, (title, surfaces) in enumerate(drawn):
        canvas.paste(slice_panel(slab, surfaces, z, title), (k * PANEL, 0))
    colours = rainbow(grounded.channels["winding"].astype(np.float64)).astype(np.uint8)
    state = np.where(grounded.valid, grounded.channels["state"], 0).astype(np.uint8)
    both = (("winding", colours), ("white: on a trace; grey: inpainted", state * 2))
    half = (PANEL, PANEL // 2 - LABEL)
    for k, (title, image) in enumerate(both):
        canvas.paste(panel(image, title, half), (2 * PANEL, k * (PANEL // 2 + LABEL // 2)))
    width = 3 * PANEL
    rows = max(1, round(layer.shape[0] * width / layer.shape[1]))
    text = panel(stretch(layer), "rendered: mean of the three layers at the recto", (width, rows))
    whole = Image.new("RGB", (width, canvas.height + text.height), "white")
    whole.paste(canvas, (0, 0))
    whole.paste(text, (0, canvas.height))
    path = out / "overview.png"
    whole.save(path)
    return path


def main(arguments: list[str]) -> dict[str, float]:
    """Go all the way into the folder named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--phantom", type=Path)
    parser.add_argument("--traces", type=Path, nargs="+")
    parser.add_argument("--text", default=TEXT)
    parser.add_argument("--size", type=int, default=SIZE)
    chosen = parser.parse_args(arguments)
    out = chosen.out
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    workers = os.cpu_count() or 1
    started = time.monotonic()
    scroll = chosen.phantom or out / "scroll"
    if chosen.phantom is None:
        run("phantom", scroll, "--size", chosen.size, "--level", "normal", "--text", chosen.text)
    if chosen.traces:
        traces = [Path(shutil.copytree(path, out / "traces" / path.name)) for path in chosen.traces]
    else:
        paths = grow_patches(out, scroll, workers)
        traces = trace_scroll(out, scroll, paths)
    fused, grounded = fuse_and_ground(out, traces)
    layer = render(out, scroll, grounded, workers)
    named = {"traces": traces, "fused": [fused], "grounded": [grounded]}
    figures = report(layer, scroll, named, grounded)
    path = overview(out, scroll, traces, grounded, layer)
    print(f"\n{time.monotonic() - started:.0f} s; look at {path}")
    return figures


if __name__ == "__main__":
    main(sys.argv[1:])
