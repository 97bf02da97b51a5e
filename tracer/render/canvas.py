"""Where pixels lie: from an output tile to grid positions of the surface.

Conventions
-----------
The full canvas has ``pixels_per_cell`` pixels per grid cell and the same orientation as the grid: a
grid row is a picture row. Pixel (i, j) is sampled at its centre, at the grid position
((i + 0.5) / pixels per cell, (j + 0.5) / pixels per cell). This is VC3D's convention, established
from its output. The crop is cut from the full canvas, then turned counter-clockwise, then
mirrored; tiles cut the result.
"""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from tracer.errors import ParamsError
from tracer.render.params import RenderParams

_ROUNDING = 1e-6  # scale 0.05 stored as float32 must not add or lose a pixel


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One rectangle of the output.

    Attributes
    ----------
    index : int
        Row-major number of the tile.
    row : int
        First output row.
    col : int
        First output column.
    height : int
        Rows.
    width : int
        Columns.
    """

    index: int
    row: int
    col: int
    height: int
    width: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """Geometry of a rendered picture.

    Attributes
    ----------
    full_shape : tuple of int
        (rows, cols) of the picture of the whole surface, neither cropped nor turned.
    pixels_per_cell : tuple of float
        Along rows' and columns' direction of the grid: (down a column, along a row).
    crop : tuple of int
        (first row, first column, rows, columns) on the full canvas.
    rotate : int
        Quarter turns counter-clockwise, 0 to 3.
    flip : tuple of bool
        Mirror top-bottom, mirror left-right, after turning.
    tile : int
        Edge of a tile.
    """

    full_shape: tuple[int, int]
    pixels_per_cell: tuple[float, float]
    crop: tuple[int, int, int, int]
    rotate: int
    flip: tuple[bool, bool]
    tile: int

    @property
    def shape(self) -> tuple[int, int]:
        """Return (rows, cols) of the output.

        Returns
        -------
        tuple of int
            After cropping and turning.
        """
        rows, cols = self.crop[2], self.crop[3]
        return (cols, rows) if self.rotate % 2 else (rows, cols)

    @property
    def tiles_shape(self) -> tuple[int, int]:
        """Return how many tiles the output has.

        Returns
        -------
        tuple of int
            (down, across).
        """
        rows, cols = self.shape
        return -(-rows // self.tile), -(-cols // self.tile)

    @property
    def n_tiles(self) -> int:
        """Return the number of tiles.

        Returns
        -------
        int
            Down times across.
        """
        down, across = self.tiles_shape
        return down * across

    def tile_at(self, index: int) -> Tile:
        """Return a tile by its row-major number.

        Parameters
        ----------
        index : int
            0 to ``n_tiles`` - 1.

        Returns
        -------
        Tile
            Clipped to the output.
        """
        row, col = divmod(index, self.tiles_shape[1])
        row, col = row * self.tile, col * self.tile
        rows, cols = self.shape
        return Tile(
            index=index,
            row=row,
            col=col,
            height=min(self.tile, rows - row),
            width=min(self.tile, cols - col),
        )

    def grid_positions(self, tile: Tile) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the grid rows and columns that a tile shows, in the grid's orientation.

        Parameters
        ----------
        tile : Tile
            A rectangle of the output.

        Returns
        -------
        rows : ndarray of float64
            Ascending fractional grid rows.
        cols : ndarray of float64
            Ascending fractional grid columns.
        """
        top, left, height, width = self._unoriented(tile)
        rows = self.crop[0] + top + np.arange(height, dtype=np.float64)
        cols = self.crop[1] + left + np.arange(width, dtype=np.float64)
        return (
            (rows + 0.5) / self.pixels_per_cell[0],
            (cols + 0.5) / self.pixels_per_cell[1],
        )

    def _unoriented(self, tile: Tile) -> tuple[int, int, int, int]:
        """Return (row, col, height, width) of a tile in the crop before turning and mirroring."""
        rows, cols = self.shape
        top, left = tile.row, tile.col
        height, width = tile.height, tile.width
        if self.flip[0]:
            top = rows - top - height
        if self.flip[1]:
            left = cols - left - width
        for _ in range(self.rotate):  # undo one turn: output (r, c) was (c, cols - 1 - r) before
            top, left = left, rows - top - height
            height, width = width, height
            rows, cols = cols, rows
        return top, left, height, width

    def oriented(self, block: NDArray[np.generic]) -> NDArray[np.generic]:
        """Return a block as it appears in the output.

        Parameters
        ----------
        block : ndarray, shape (..., height, width)
            Pixels in the grid's orientation.

        Returns
        -------
        ndarray
            Turned and mirrored view.
        """
        turned = np.rot90(block, self.rotate, axes=(-2, -1))
        if self.flip[0]:
            turned = turned[..., ::-1, :]
        if self.flip[1]:
            turned = turned[..., ::-1]
        return turned


def plan_canvas(
    grid_shape: tuple[int, int], scale: tuple[float, float], params: RenderParams
) -> Canvas:
    """Return the canvas of a surface.

    Parameters
    ----------
    grid_shape : tuple of int
        (rows, cols) of the surface's grid.
    scale : tuple of float
        (sx, sy): cells per level-0 voxel along columns and rows.
    params : RenderParams
        Scale, level, crop, rotation, mirroring, tile.

    Returns
    -------
    Canvas
        Full size: cells / surface scale * scale * 2^-level, rounded.

    Raises
    ------
    ParamsError
        If the crop lies outside the canvas.
    """
    per_voxel = params.scale / 2**params.level
    rows, down = _fit(grid_shape[0], per_voxel / scale[1])
    cols, across = _fit(grid_shape[1], per_voxel / scale[0])
    if params.crop_y >= rows or params.crop_x >= cols:
        raise ParamsError(
            f"crop starts at x {params.crop_x}, y {params.crop_y} but the canvas has only "
            f"{cols} x {rows} pixels; move the crop"
        )
    height = min(params.crop_height or rows, rows - params.crop_y)
    width = min(params.crop_width or cols, cols - params.crop_x)
    return Canvas(
        full_shape=(rows, cols),
        pixels_per_cell=(down, across),
        crop=(params.crop_y, params.crop_x, height, width),
        rotate=params.rotate // 90,
        flip=(params.flip in ("vertical", "both"), params.flip in ("horizontal", "both")),
        tile=params.tile,
    )


def _fit(cells: int, per_cell: float) -> tuple[int, float]:
    """Return the pixels of one axis and the pixels per cell.

    The stored scale is a float32. Where the size is a whole number but for that noise, pixels per
    cell follow from the size, so that the last pixel is as well placed as the first.
    """
    exact = cells * per_cell
    pixels = max(1, math.floor(exact + 0.5 + _ROUNDING))
    return pixels, pixels / cells if abs(pixels - exact) < _ROUNDING * pixels else per_cell
