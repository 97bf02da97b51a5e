"""Panels of the pictures that the demos end with: slices with surfaces in them, renders."""

import numpy as np
from PIL import Image, ImageDraw

from tracer.surface import Surface

PANEL = 512  # pixels per side of a square panel
LABEL = 18  # pixels above a panel
COLOURS = ((255, 90, 60), (80, 200, 255), (255, 220, 60), (120, 255, 120), (230, 120, 255))


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


def slice_panel(ct_slice: np.ndarray, surfaces: list[Surface], z: int, title: str) -> Image.Image:
    """Return a slice with the surfaces drawn in."""
    square = (PANEL, PANEL)
    out = panel(ct_slice, title, square)
    drawing = Image.fromarray(ct_slice).convert("RGB").resize(square)
    draw_surfaces(drawing, surfaces, z, PANEL / ct_slice.shape[1])
    out.paste(drawing, (0, LABEL))
    return out


def stretch(image: np.ndarray) -> np.ndarray:
    """Return an image with its 2nd to 99.5th percentile spread over all greys."""
    seen = image[image > 0]
    low, high = np.percentile(seen, (2, 99.5)) if seen.size else (0, 255)
    return np.clip((image - low) * (255.0 / max(high - low, 1.0)), 0, 255).astype(np.uint8)
