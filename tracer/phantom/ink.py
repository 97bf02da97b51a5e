"""The hidden text of a phantom: an image in (z, arc length), one pixel per voxel of the sheet."""

import math

import numpy as np
from numpy.typing import NDArray

from tracer.errors import ParamsError

_CAP_OF_SIZE = 0.72  # height of a capital of the built-in font, as a share of its size
_LINE_OF_CAP = 1.5  # distance of lines, as a share of the height of a capital
_INDENT = 0.37  # by which each line is shifted against the one above, as a share of the text
_STROKE = 0.05  # thickening of strokes, as a share of the height of a capital


def draw_ink(text: str, shape: tuple[int, int], letter_height: float) -> NDArray[np.uint8]:
    """Return an image with a text written over and over, line by line.

    Parameters
    ----------
    text : str
        What to write; an empty text leaves the image empty.
    shape : tuple of int
        Rows (along z) and columns (along the sheet) of the image.
    letter_height : float
        Height of a capital, pixels.

    Returns
    -------
    ndarray of uint8, shape `shape`
        0 bare, 255 inked.

    Raises
    ------
    ParamsError
        If the font lacks a letter of the text.
    """
    from PIL import Image, ImageDraw, ImageFont

    image = np.zeros(shape, np.uint8)
    if not text.strip():
        return image
    font = ImageFont.load_default(size=letter_height / _CAP_OF_SIZE)
    stroke = max(1, round(_STROKE * letter_height))
    blank = bytes(font.getmask("\uffff"))
    unknown = sorted({letter for letter in text if bytes(font.getmask(letter)) == blank})
    if unknown:
        raise ParamsError(
            f"text: the built-in font has no {' '.join(unknown)} (in {text!r}); use Latin letters"
        )
    left, top, right, bottom = font.getbbox(text, stroke_width=stroke)
    width = math.ceil(right - left + letter_height)
    height = math.ceil(bottom - top)
    tile = Image.new("L", (width, height))
    origin = (0.5 * letter_height - left, -top)
    ImageDraw.Draw(tile).text(origin, text, fill=255, font=font, stroke_width=stroke)
    line = np.asarray(tile, np.uint8)
    pace = max(height, round(_LINE_OF_CAP * letter_height))
    n_lines = max(1, shape[0] // pace)
    margin = (shape[0] - n_lines * pace) // 2 + (pace - height) // 2
    for i in range(n_lines):
        first = max(0, margin + i * pace)
        rows = min(height, shape[0] - first)
        columns = (np.arange(shape[1]) + round(i * _INDENT * width)) % width
        image[first : first + rows] = line[:rows, columns]
    return image
