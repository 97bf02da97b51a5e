"""Run every command of docs/first-light.md on the real data and make its pictures and figures.

    python -m benchmarks.first_light [--update]

Writes the folder first-light/. With --update the figures and pictures of the page are replaced;
without it the figures are compared, the pictures are not. --no-run measures what is there already.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tracer.check.pictures import crossings
from tracer.errors import TracerWarning
from tracer.label_score import LabelScore, labels_at, score_labels
from tracer.score import find_surfaces
from tracer.surface import Surface
from tracer.tif import read_tif
from tracer.volume import Volume

PAGE = Path("docs/first-light.md")
IMAGES = Path("docs/images")
OUT = Path("first-light")
AIR = 70  # grey value of the CT cube below which there is air; papyrus is at 110 to 160
ACROSS = 8  # voxels: half of the usual distance of sheets in the CT cube
COLOURS = ((255, 90, 60), (80, 200, 255), (255, 220, 60), (120, 255, 120), (230, 120, 255))
N_GREYS = 32
ZOOM = 1.75  # pixels per voxel of the CT slices
LARGEST_PNG = 150_000  # bytes


def commands(page: str) -> str:
    """Return the shell commands of a page, in its order."""
    return "\n".join(re.findall(r"^```bash\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))


def run(script: str) -> None:
    """Run shell commands with this environment's `tracer`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-euxc", script], check=True, env={**os.environ, "PATH": path})


def load(folder: Path) -> list[Surface]:
    """Return the surfaces of a collection."""
    return [Surface.load(path) for path in find_surfaces([folder])]


def enlarge(image: np.ndarray, zoom: float) -> Image.Image:
    """Return a picture: grey values smoothly and in few greys, colours as they are."""
    size = (round(image.shape[1] * zoom), round(image.shape[0] * zoom))
    if image.ndim == 3:
        return Image.fromarray(image).resize(size, Image.Resampling.NEAREST)
    smooth = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    return Image.fromarray(few_greys(smooth, N_GREYS)).convert("RGB")


def draw_slice(
    image: np.ndarray,
    surfaces: list[Surface],
    axis: int,
    value: int,
    zoom: float,
    colours: tuple[tuple[int, int, int], ...],
) -> Image.Image:
    """Return a slice (along z or y of a volume) with the lines where surfaces cross it."""
    picture = enlarge(image, zoom)
    pen = ImageDraw.Draw(picture)
    shown = [0, 1] if axis == 2 else [0, 2]
    for number, surface in enumerate(surfaces):
        for line in (crossings(surface, axis, value)[..., shown] + 0.5) * zoom:
            pen.line([tuple(end) for end in line], fill=colours[number % len(colours)], width=2)
    return picture


def few_greys(image: np.ndarray, n_greys: int) -> np.ndarray:
    """Return an image in a few greys, so that its file is small."""
    step = 256 / n_greys
    return (np.floor(image / step) * step + 0.5 * step).astype(np.uint8)


def save(name: str, pictures: list[Image.Image]) -> None:
    """Write pictures side by side."""
    gap = 8
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    canvas = Image.new("RGB", (width, max(p.height for p in pictures)), "white")
    left = 0
    for picture in pictures:
        canvas.paste(picture, (left, 0))
        left += picture.width + gap
    path = OUT / f"first-light-{name}.png"
    colours = canvas.getcolors(maxcolors=256)
    if colours is None:
        raise ValueError(f"{path} has more than 256 colours; a palette keeps the file small")
    palette = Image.new("P", (1, 1))
    palette.putpalette([channel for _, colour in colours for channel in colour])
    canvas.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > LARGEST_PNG:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; make the picture smaller")


def percent(share: float, digits: int) -> str:
    """Return a share for people."""
    return f"{100 * share:.{digits}f} %"


def table(rows: dict[str, object]) -> str:
    """Return figures as a table of the page."""
    return "\n".join(
        ["| figure | value |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())]
    )


def ct_figures() -> str:
    """Return the figures of the CT cube and make its pictures."""
    ct, found = Volume.open(OUT / "ct.zarr"), Volume.open(OUT / "found.zarr")
    grey = ct.read(0, (0, 0, 0), ct.shape_zyx)
    predicted = found.read(0, (0, 0, 0), found.shape_zyx) > 0
    patches = load(OUT / "ct_paths")
    at = ct.shape_zyx[0] // 2
    slices = ((grey[at], 2), (np.ascontiguousarray(grey[:, at]), 1))
    save("ct", [draw_slice(s, patches, axis, at, ZOOM, COLOURS) for s, axis in slices])
    layers = [read_tif(OUT / "layers" / f"{i:02d}.tif") for i in (4, 8, 12)]
    save("layers", [enlarge(layer, 1.25) for layer in layers])

    points = np.concatenate([patch.points_xyz[patch.valid] for patch in patches])
    normals = np.concatenate([patch.normals()[patch.valid] for patch in patches])
    points, normals = points[np.isfinite(normals[:, 0])], normals[np.isfinite(normals[:, 0])]
    on = labels_at(ct, points)
    sides = [labels_at(ct, points + side * ACROSS * normals) for side in (-1, 1)]
    around = " and ".join(f"{values[values > 0].mean():.0f}" for values in sides)
    (one,) = load(OUT / "one")
    return table(
        {
            "voxels predicted": percent(predicted.mean(), 1),
            "patches from 30 random seeds": len(patches),
            "their area": f"{sum(patch.area_cm2(ct.voxel_size_um) for patch in patches):.4f} cm²",
            "grey value: all voxels, mean": f"{grey.mean():.0f}",
            "grey value: vertices of patches, mean": f"{on.mean():.0f}",
            f"grey value {ACROSS} voxels to either side of them, mean": around,
            f"in air (grey value below {AIR}): all voxels": percent((grey < AIR).mean(), 1),
            f"in air (grey value below {AIR}): vertices of patches": percent((on < AIR).mean(), 2),
            "the rendered patch": f"{one.area_cm2(ct.voxel_size_um):.5f} cm², "
            f"{layers[0].shape[1]} x {layers[0].shape[0]} pixels",
        }
    )


def face_agreement(labels: np.ndarray, axis: int, at: int) -> float:
    """Return the share of equal ids where both voxels beside the plane axis = at have one."""
    below, above = labels.take(at - 1, axis), labels.take(at, axis)
    both = (below > 0) & (above > 0)
    return float((below[both] == above[both]).mean())


def label_figures() -> str:
    """Return the figures of the label cubes and make their picture."""
    volume = Volume.open(OUT / "labels.zarr")
    labels = volume.read(0, (0, 0, 0), volume.shape_zyx)
    pen = np.random.default_rng(0)
    palette = pen.integers(70, 200, (int(labels.max()) + 1, 3)).astype(np.uint8)
    palette[0] = 16
    patches = load(OUT / "label_paths")
    planes = ((labels[200], 2, 200), (labels[:, 128], 1, 128))
    white = ((255, 255, 255),)
    save("labels", [draw_slice(palette[p], patches, a, v, 2, white) for p, a, v in planes])
    rows: dict[str, object] = {
        "ids that agree across the shared face in z": percent(face_agreement(labels, 0, 256), 2),
        "ids that agree across the shared face in y": percent(face_agreement(labels, 1, 256), 2),
        "ids in the labels": len(np.unique(labels)) - 1,
    }
    for step, folder in ((20, "label_paths"), (10, "label_paths_10")):
        score = score_labels([OUT / folder], volume)
        area = sum(patch.area_cm2(volume.voxel_size_um) for patch in load(OUT / folder))
        rows.update({f"step {step}: {k}": v for k, v in purity_rows(score, area).items()})
    return table(rows)


def purity_rows(score: LabelScore, area_cm2: float) -> dict[str, object]:
    """Return the figures of one collection on the labels."""
    return {
        "patches from 60 random seeds": f"{score.n_surfaces}, {area_cm2:.2f} cm²",
        "ids with a patch": len({one.main_id for one in score.surfaces if one.n_labelled}),
        "vertices on a label": f"{percent(score.labelled, 1)} of {score.n_vertices}",
        "of these on the patch's main id": percent(score.purity, 3),
        "patches with more than 1 % on another id": score.n_mixed,
        "vertices on another id; largest group of neighbours": f"{score.n_foreign}; "
        f"{score.largest_foreign}",
    }


def tifxyz_figures(folder: Path) -> str:
    """Return what is wrong with the published segments."""
    lines = ["| segment | step by its scale | measured along rows, columns |", "|---|---|---|"]
    for path in find_surfaces([folder]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TracerWarning)
            surface = Surface.load(path)
        row, col = surface.spacing()
        by_scale = " x ".join(f"{1 / s:.0f}" for s in surface.scale)
        lines.append(f"| {path.name} | {by_scale} | {row:.1f} x {col:.1f} |")
    return "\n".join(lines)


def with_figures(page: str, figures: dict[str, str]) -> str:
    """Return a page with its figures replaced."""
    for name, text in figures.items():
        start, end = f"<!-- figures: {name} -->\n", "<!-- end -->"
        before, rest = page.split(start, 1)
        page = before + start + text + "\n" + end + rest.split(end, 1)[1]
    return page


def main(arguments: list[str]) -> int:
    """Run the page; return 1 where its figures are out of date."""
    page = PAGE.read_text(encoding="utf-8")
    match = re.search(r"^DATA=(\S+)$", commands(page), re.MULTILINE)
    data = Path(match[1]) if match else Path()
    if not data.is_dir():
        print(f"{data}: no such folder; put the real data there, see {PAGE}")
        return 2
    if "--no-run" not in arguments:
        shutil.rmtree(OUT, ignore_errors=True)
        OUT.mkdir()
        run(commands(page))
    figures = {
        "ct": ct_figures(),
        "labels": label_figures(),
        "tifxyz": tifxyz_figures(data / "pherc0172_tifxyz"),
    }
    print("\n\n".join(figures.values()))
    (OUT / "figures.json").write_text(json.dumps(figures, indent=2, ensure_ascii=False))
    if "--update" in arguments:
        PAGE.write_text(with_figures(page, figures), encoding="utf-8")
        IMAGES.mkdir(exist_ok=True)
        for path in sorted(OUT.glob("first-light-*.png")):
            shutil.copy(path, IMAGES)
        return 0
    if with_figures(page, figures) != page:
        print(f"\n{PAGE} shows other figures; run again with --update if these are right")
        return 1
    print(f"\n{PAGE} shows the same figures")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
