"""Draw docs/images/winding.png and docs/images/fuse.png: ``python -m benchmarks.draw_winding``.

Top, the winding rainbow of a trace of the reference phantom's recto; below, of one that jumps
a wrap over part of its height, what was found marked. The other picture: a slice with a fused
surface, inpainted parts red.
"""

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.growth_inputs import ROOT, VC3D
from benchmarks.trace_inputs import Cut, cut_out
from tracer.fuse import FuseParams, Source, fuse
from tracer.phantom import Truth
from tracer.unroll.pictures import rainbow
from tracer.volume import Volume
from tracer.winding import solve_winding

OUT = ROOT / "docs" / "images"
ZOOM = 3
Z = 240


def draw_rainbows(truth: Truth) -> Image.Image:
    """Return the windings of a correct and of a jumping trace."""
    parts = []
    for cut in (Cut(), Cut(jump_at=0.35, back_at=0.55, rows=(0.3, 0.7))):
        surface, _ = cut_out(truth, cut)
        found = solve_winding(surface)
        picture = Image.fromarray(rainbow(found.values.astype(np.float64)).astype(np.uint8))
        picture = picture.resize((ZOOM * picture.width, ZOOM * picture.height), Image.NEAREST)
        pen = ImageDraw.Draw(picture)
        for jump in found.discontinuities:
            (top, bottom), (left, right) = jump.rows, jump.cols
            box = (left, top, right + 1, bottom + 1)
            pen.rectangle([ZOOM * value for value in box], outline="white", width=2)
        parts.append(picture)
    canvas = Image.new(
        "RGB", (max(p.width for p in parts), sum(p.height for p in parts) + 8), "white"
    )
    canvas.paste(parts[0], (0, 0))
    canvas.paste(parts[1], (0, parts[0].height + 8))
    return canvas


def draw_fused(truth: Truth) -> Image.Image:
    """Return a slice of the prediction with a surface fused from a trace with holes."""
    surface, _ = cut_out(truth, Cut(holes=60.0))
    winding = solve_winding(surface).values.astype(np.float64)
    fused = fuse([Source(surface=surface, winding=winding)], FuseParams(trace_mul=0.5)).surface({})
    volume = Volume.open(VC3D / "volume" / "pred.zarr")
    slab = volume.read(0, (Z, 0, 0), (Z + 1, *volume.shape_zyx[1:]))[0]
    picture = Image.fromarray(np.repeat((slab // 3)[..., None], 3, axis=2))
    picture = picture.resize((picture.width * 3 // 2, picture.height * 3 // 2))
    pen = ImageDraw.Draw(picture)
    row = int(
        np.nanargmin(
            np.abs(np.nanmean(np.where(fused.valid, fused.points_xyz[..., 2], np.nan), axis=1) - Z)
        )
    )
    line, state = fused.points_xyz[row], fused.channels["state"][row]
    for a, b in zip(range(len(line) - 1), range(1, len(line)), strict=True):
        if state[a] and state[b]:
            colour = (90, 235, 90) if min(state[a], state[b]) == 100 else (255, 70, 60)
            pen.line([tuple(1.5 * line[a, :2]), tuple(1.5 * line[b, :2])], fill=colour, width=2)
    return picture


def main() -> None:
    """Draw both."""
    truth = Truth.load(VC3D / "truth.json")
    for name, picture in (("winding", draw_rainbows(truth)), ("fuse", draw_fused(truth))):
        path = OUT / f"{name}.png"
        picture.quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
