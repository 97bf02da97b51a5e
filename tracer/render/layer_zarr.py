"""Rendered layers as an OME-Zarr: axes layer, row, col, with a pyramid in rows and columns only.

One chunk holds all layers of one tile. Chunk files appear by atomic rename, so those that exist
are finished and a killed process can be continued.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.atomic import write_bytes, write_json
from tracer.progress import Progress, silent

_SMALLEST = 512  # the pyramid ends where the picture fits into this


class LayerZarr:
    """A volume of rendered layers, written tile by tile.

    Parameters
    ----------
    path : Path
        The ``.zarr`` directory.
    layers : int
        Number of layers.
    shape : tuple of int
        (rows, cols).
    tile : int
        Edge of a tile.
    dtype : dtype
        uint8 or uint16.
    layer_um : float
        Distance of layers in micrometres.
    pixel_um : float
        Pixel size in micrometres.

    Attributes
    ----------
    shapes : list of tuple of int
        (rows, cols) of the levels.
    """

    def __init__(
        self,
        path: Path,
        layers: int,
        shape: tuple[int, int],
        tile: int,
        dtype: np.dtype[np.generic],
        *,
        layer_um: float,
        pixel_um: float,
    ) -> None:
        import numcodecs

        self.path = path
        self._layers = layers
        self._tile = tile
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._codec = numcodecs.Blosc(cname="zstd", clevel=3, shuffle=numcodecs.Blosc.SHUFFLE)
        self._layer_um = layer_um
        self._pixel_um = pixel_um
        self.shapes = [shape]
        while max(self.shapes[-1]) > _SMALLEST:
            rows, cols = self.shapes[-1]
            self.shapes.append((-(-rows // 2), -(-cols // 2)))

    @property
    def finished(self) -> set[int]:
        """Return the tiles that exist.

        Returns
        -------
        set of int
            Row-major numbers.
        """
        across = -(-self.shapes[0][1] // self._tile)
        return {
            int(file.parent.name) * across + int(file.name)
            for file in (self.path / "0" / "0").glob("*/*")
            if file.name.isdigit()
        }

    @property
    def n_levels(self) -> int:
        """Return the number of levels.

        Returns
        -------
        int
            At least 1.
        """
        return len(self.shapes)

    def create(self) -> None:
        """Write what makes the directory readable, before any chunk."""
        write_json_tree(self.path, self._metadata())

    def _metadata(self) -> dict[str, Mapping[str, Any]]:
        """Return the JSON files of the group, except for its attributes."""
        files: dict[str, Mapping[str, Any]] = {".zgroup": {"zarr_format": 2}}
        for level, (rows, cols) in enumerate(self.shapes):
            files[f"{level}/.zarray"] = {
                "zarr_format": 2,
                "shape": [self._layers, rows, cols],
                "chunks": [self._layers, self._tile, self._tile],
                "dtype": self._dtype.str,
                "fill_value": 0,
                "order": "C",
                "filters": None,
                "dimension_separator": "/",
                "compressor": self._codec.get_config(),
            }
        return files

    def encode(self, block: NDArray[np.generic]) -> bytes:
        """Return one compressed chunk.

        Parameters
        ----------
        block : ndarray, shape (layers, height, width)
            At most a tile; missing rows and columns are 0.

        Returns
        -------
        bytes
            Content of a chunk file.
        """
        whole = np.zeros((self._layers, self._tile, self._tile), dtype=self._dtype)
        whole[:, : block.shape[1], : block.shape[2]] = block
        return bytes(self._codec.encode(whole))

    def write(self, level: int, row: int, col: int, data: bytes) -> None:
        """Write one chunk.

        Parameters
        ----------
        level : int
            Pyramid level.
        row : int
            Tile row.
        col : int
            Tile column.
        data : bytes
            What :meth:`encode` returned.
        """
        file = self._file(level, row, col)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, data)

    def read(self, level: int, row: int, col: int) -> NDArray[np.generic] | None:
        """Return one chunk, padded with 0, or None where it does not exist.

        Parameters
        ----------
        level : int
            Pyramid level.
        row : int
            Tile row.
        col : int
            Tile column.

        Returns
        -------
        ndarray of shape (layers, tile, tile) or None
            Pixels.
        """
        file = self._file(level, row, col)
        if not file.exists():
            return None
        data = np.frombuffer(self._codec.decode(file.read_bytes()), dtype=self._dtype)
        return data.reshape(self._layers, self._tile, self._tile)

    def _file(self, level: int, row: int, col: int) -> Path:
        return self.path / str(level) / "0" / str(row) / str(col)

    def finish(self, meta: Mapping[str, Any], *, progress: Progress = silent) -> None:
        """Build the pyramid and write the metadata that viewers look for.

        Parameters
        ----------
        meta : mapping
            What the layers are; stored as ``render`` in the attributes.
        progress : Progress
            Called per level.
        """
        for level in range(1, self.n_levels):
            self._pool(level)
            progress(level, self.n_levels - 1, "pyramid")
        name = self.path.stem
        axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
        datasets = [
            {
                "path": str(level),
                "coordinateTransformations": [
                    {
                        "type": "scale",
                        "scale": [self._layer_um, *[self._pixel_um * 2**level] * 2],
                    }
                ],
            }
            for level in range(self.n_levels)
        ]
        multiscale = {"version": "0.4", "name": name, "axes": axes, "datasets": datasets}
        rows, cols = self.shapes[0]
        volume_meta = {
            "format": "zarr",
            "height": rows,
            "max": 65535.0 if self._dtype.itemsize == 2 else 255.0,
            "min": 0.0,
            "name": name,
            "slices": self._layers,
            "type": "vol",
            "uuid": name,
            "voxelsize": self._pixel_um,
            "width": cols,
        }
        attributes = {"multiscales": [multiscale], "render": dict(meta)}
        write_json_tree(self.path, {"meta.json": volume_meta, ".zattrs": attributes})

    def _pool(self, level: int) -> None:
        """Make one level from the one below: means of 2 x 2 pixels, rounded half up."""
        rows, cols = self.shapes[level - 1]
        half = self._tile // 2
        across = -(-self.shapes[level][1] // self._tile)
        tiles = {
            (int(file.parent.name) // 2, int(file.name) // 2)
            for file in (self.path / str(level - 1) / "0").glob("*/*")
            if file.name.isdigit()
        }
        for row, col in sorted(tiles, key=lambda tile: tile[0] * across + tile[1]):
            if self._file(level, row, col).exists():
                continue
            out = np.zeros((self._layers, self._tile, self._tile), dtype=self._dtype)
            for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
                block = self.read(level - 1, 2 * row + i, 2 * col + j)
                if block is None:
                    continue
                height = min(self._tile, rows - (2 * row + i) * self._tile)
                width = min(self._tile, cols - (2 * col + j) * self._tile)
                small = _halve(block[:, :height, :width])
                top, left = i * half, j * half
                out[:, top : top + small.shape[1], left : left + small.shape[2]] = small
            self.write(level, row, col, bytes(self._codec.encode(out)))


def _halve(block: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return means of 2 x 2 pixels; at an odd edge of those that exist."""
    layers, height, width = block.shape
    padded = np.pad(block, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    sums = padded.reshape(layers, -(-height // 2), 2, -(-width // 2), 2).sum(
        axis=(2, 4), dtype=np.uint32
    )
    return np.asarray((sums + 2) // 4, dtype=block.dtype)


def write_json_tree(root: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Write JSON files below a directory.

    Parameters
    ----------
    root : Path
        Directory; created with its sub-directories.
    files : mapping of str to mapping
        Relative name to content.
    """
    for name, value in files.items():
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_json(target, value)
