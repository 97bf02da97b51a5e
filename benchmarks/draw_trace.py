"""Draw what traces cover of what their patches cover: ``python -m benchmarks.draw_trace PATHS TRUTH
OUT.png TITLE=SURFACE…``; the recto is unrolled in two rows, the core first."""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from tracer.phantom import Truth
from tracer.score import find_surfaces
from tracer.surface import Surface

PIXEL = 5.0  # voxels
NEAR = 3.0  # voxels from the recto
ROWS, GAP, LABEL = 2, 6, 24
PATCHES, TRACE, NOTHING = (205, 205, 205), (200, 70, 40), (255, 255, 255)


def covered(paths: list[Path], truth: Truth) -> NDArray[np.bool_]:
    """Return which pixels of the unrolled recto are within reach of some surfaces."""
    begin, end = (float(truth.arc_of_theta(theta)) for theta in truth.theta_range)
    low, high = truth.z_range
    found = np.zeros((int((high - low) / PIXEL) + 1, int((end - begin) / PIXEL) + 1), bool)
    for path in paths:
        surface = Surface.load(path, channels=())
        n = int(np.ceil(1.5 * surface.step / PIXEL))
        points, (r, c) = surface.points_xyz.astype(np.float64), np.nonzero(surface.valid_quads)
        for a in (np.arange(n) + 0.5) / n:
            for b in (np.arange(n) + 0.5) / n:
                upper = (1 - b) * points[r, c] + b * points[r, c + 1]
                at = (1 - a) * upper + a * ((1 - b) * points[r + 1, c] + b * points[r + 1, c + 1])
                at = at[np.abs(truth.distance(at)) < NEAR]
                x = ((truth.arc_length(at) - begin) / PIXEL).astype(int)
                y = ((high - at[:, 2]) / PIXEL).astype(int)
                use = (x >= 0) & (x < found.shape[1]) & (y >= 0) & (y < found.shape[0])
                found[y[use], x[use]] = True
    return np.asarray(ndimage.binary_closing(found))


def folded(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a long picture in rows."""
    height, width = image.shape[0], -(-image.shape[1] // ROWS)
    out = np.full((LABEL + ROWS * (height + GAP), width, 3), 255, np.uint8)
    for row in range(ROWS):
        part = image[:, row * width : (row + 1) * width]
        top = LABEL + row * (height + GAP)
        out[top : top + height, : part.shape[1]] = part
    return out


def main(arguments: list[str]) -> None:
    """Draw."""
    paths, truth_path, out, *named = arguments
    truth = Truth.load(truth_path)
    patches = covered(find_surfaces([paths]), truth)
    panels, titles = [], []
    for word in named:
        title, _, surface = word.partition("=")
        image = np.full((*patches.shape, 3), NOTHING, np.uint8)
        image[patches] = PATCHES
        image[covered(find_surfaces([surface]), truth)] = TRACE
        panels.append(folded(image))
        titles.append(title)
    picture = Image.fromarray(np.concatenate(panels))
    draw = ImageDraw.Draw(picture)
    for k, title in enumerate(titles):
        draw.text((4, k * len(panels[0]) + 6), title, fill=(0, 0, 0))
    picture.save(out)


if __name__ == "__main__":
    main(sys.argv[1:])
