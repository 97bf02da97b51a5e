"""Everything that a render leaves on disk, and how an interrupted one is taken up again.

While a render is in work its directory holds ``.render.json`` (what is being made), ``.journal``
and ``.part`` files; a complete one has ``render.json``.
"""

import dataclasses
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from numpy.typing import NDArray

from tracer.atomic import write_json
from tracer.errors import OutputError, ParamsError
from tracer.progress import Progress, silent
from tracer.render.canvas import Tile
from tracer.render.job import Job
from tracer.render.layer_zarr import LayerZarr
from tracer.render.metadata import META_NAME, description, difference, metadata, read_meta
from tracer.render.params import RenderParams
from tracer.render.pictures import PREVIEW_PIXELS, Preview, write_mask
from tracer.render.tif_stack import TifStack, encode_tile
from tracer.surface import Surface

_IN_WORK_NAME = ".render.json"
_JOURNAL_NAME = ".journal"
_MASK_NAME = "mask.png"
_PREVIEW_NAMES = ("preview.jpg", "preview.png")
_PATTERN = re.compile(r"%0?\d*d")
_UM_PER_CM = 1e4


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where the parts of a render go.

    Attributes
    ----------
    directory : Path
        Holds everything.
    pattern : str
        Name of a layer's tif.
    zarr : Path or None
        The OME-Zarr, if one is wanted.
    tif : bool
        Whether a tif per layer is wanted.
    """

    directory: Path
    pattern: str
    zarr: Path | None
    tif: bool

    @classmethod
    def parse(cls, out: str | Path, params: RenderParams) -> Self:
        """Return the destination that a user means.

        Parameters
        ----------
        out : str or Path
            Directory, pattern ``dir/%02d.tif``, or ``.zarr``.
        params : RenderParams
            Kind of output.

        Returns
        -------
        Destination
            A ``.zarr`` is the OME-Zarr itself; otherwise it lies in the directory as
            ``layers.zarr``.

        Raises
        ------
        ParamsError
            If a name for a single tif is given for several layers.
        """
        path = Path(out)
        tif = params.output in ("tif", "both")
        wants_zarr = params.output in ("zarr", "both")
        digits = max(2, len(str(params.layers - 1)))
        if _PATTERN.search(path.name):
            return cls(
                directory=path.parent,
                pattern=path.name,
                zarr=path.parent / "layers.zarr" if wants_zarr else None,
                tif=tif,
            )
        if path.suffix == ".zarr":
            return cls(directory=path, pattern="", zarr=path, tif=False)
        if path.suffix.lower() in (".tif", ".tiff"):
            if len(params.written_layers) != 1:
                raise ParamsError(
                    f"{path}: one file for {len(params.written_layers)} layers; give a directory "
                    f"or a pattern such as {path.parent / '%02d.tif'}"
                )
            pattern = path.name.replace("%", "%%")
            zarr = path.parent / "layers.zarr" if wants_zarr else None
            return cls(directory=path.parent, pattern=pattern, zarr=zarr, tif=tif)
        return cls(
            directory=path,
            pattern=f"%0{digits}d.tif",
            zarr=path / "layers.zarr" if wants_zarr else None,
            tif=tif,
        )

    def layer_path(self, layer: int) -> Path:
        """Return the name of a layer's tif.

        Parameters
        ----------
        layer : int
            Index, 0 the most negative offset.

        Returns
        -------
        Path
            In the directory.
        """
        name = self.pattern % layer if _PATTERN.search(self.pattern) else self.pattern
        return self.directory / name.replace("%%", "%")


class Outputs:
    """The files of one render.

    Parameters
    ----------
    job : Job
        What is rendered.
    surface : Surface
        Its source, for the metadata.
    destination : Destination
        Where.
    """

    def __init__(self, job: Job, surface: Surface, destination: Destination) -> None:
        self._job = job
        self._where = destination
        self._params = job.params
        self._meta = metadata(job, surface)
        self._stack: TifStack | None = None
        self._zarr: LayerZarr | None = None
        layers = [destination.layer_path(i) for i in self._layer_files()]
        composites = [destination.directory / f"{name}.tif" for name in self._params.composites]
        self._tifs = layers + composites
        self._meta["files"] = [path.name for path in self._tifs]
        if len(set(self._tifs)) < len(self._tifs):
            raise ParamsError(
                f"{destination.directory / destination.pattern}: names two layers alike; "
                "give a pattern such as %02d.tif"
            )

    def _layer_files(self) -> range:
        return self._params.written_layers if self._where.tif else range(0)

    def begin(self, *, overwrite: bool) -> bool:
        """Take up what is there, or start.

        Parameters
        ----------
        overwrite : bool
            Remove a render with other parameters.

        Returns
        -------
        bool
            True if the same render is complete already.

        Raises
        ------
        OutputError
            If the directory holds another render, or files of the same names.
        """
        directory = self._where.directory
        found = read_meta(directory / META_NAME)
        in_work = read_meta(directory / _IN_WORK_NAME)
        same = [
            other is not None and other.get("digest") == self._meta["digest"]
            for other in (found, in_work)
        ]
        if same[0] and all(path.exists() for path in self._tifs):
            return True
        if overwrite and not same[1]:
            self._remove_old(found, in_work)
        elif found is not None and not same[0]:
            raise OutputError(f"{directory}: holds a render {difference(found, self._meta)}")
        elif in_work is not None and not same[1]:
            raise OutputError(
                f"{directory}: holds an unfinished render {difference(in_work, self._meta)}"
            )
        elif found is None and in_work is None:
            for path in self._targets():
                if path.exists() and not _is_empty_directory(path):
                    raise OutputError(
                        f"{path}: exists already; choose another directory or overwrite it"
                    )
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{directory}: cannot create it ({error.strerror})") from error
        write_json(directory / _IN_WORK_NAME, self._meta)
        self._open()
        return False

    def _targets(self) -> list[Path]:
        """Return everything that will be written and has a name of its own."""
        directory, params = self._where.directory, self._params
        targets = [*self._tifs]
        if self._where.zarr is not None:
            targets.append(self._where.zarr)
        if params.mask:
            targets.append(directory / _MASK_NAME)
        if params.preview != "none":
            targets.append(self._preview_path())
        return targets

    def _remove_old(self, *old: Mapping[str, Any] | None) -> None:
        """Remove the files that an earlier render lists, and those that this one will write."""
        directory = self._where.directory
        names = {path.name for path in self._tifs}
        for meta in old:
            names |= {str(name) for name in (meta or {}).get("files", ())}
        for name in sorted(names):
            if Path(name).name == name:
                (directory / name).unlink(missing_ok=True)
                (directory / f".{name}.part").unlink(missing_ok=True)
        for name in (META_NAME, _IN_WORK_NAME, _JOURNAL_NAME, _MASK_NAME, *_PREVIEW_NAMES):
            (directory / name).unlink(missing_ok=True)
        root = self._where.zarr
        if root is not None and (root / ".zgroup").exists():
            for entry in sorted(root.iterdir()):
                if entry.name.isdigit():
                    shutil.rmtree(entry)

    def _open(self) -> None:
        job, params, directory = self._job, self._params, self._where.directory
        if self._tifs:
            self._stack = TifStack(
                self._tifs,
                job.canvas.shape,
                params.tile,
                job.dtype,
                params.compression,
                description=description(self._meta),
                pixels_per_cm=_UM_PER_CM / job.um_per_pixel,
                journal=directory / _JOURNAL_NAME,
            )
        self.open_encoder()
        if self._zarr is not None:
            self._zarr.create()

    def open_encoder(self) -> None:
        """Make ready for :meth:`encode` alone, without a file."""
        job, params = self._job, self._params
        if self._where.zarr is not None:
            self._zarr = LayerZarr(
                self._where.zarr,
                len(params.written_layers),
                job.canvas.shape,
                params.tile,
                job.dtype,
                layer_um=job.volume.voxel_size_um,
                pixel_um=job.um_per_pixel,
            )

    @property
    def digest(self) -> str:
        """Return what is equal for equal pixels.

        Returns
        -------
        str
            Hexadecimal.
        """
        return str(self._meta["digest"])

    def finished(self) -> set[int]:
        """Return the tiles that an interrupted run has finished.

        Returns
        -------
        set of int
            Row-major numbers of tiles that every output has.
        """
        sets = [self._stack.finished] if self._stack else []
        sets += [self._zarr.finished] if self._zarr else []
        return set.intersection(*map(set, sets)) if sets else set()

    def encode(
        self, tile: Tile, block: NDArray[Any], composites: list[NDArray[Any]]
    ) -> tuple[list[bytes], bytes]:
        """Return one tile, compressed for every output.

        Parameters
        ----------
        tile : Tile
            Which.
        block : ndarray, shape (layers, height, width)
            All layers.
        composites : list of ndarray, shape (height, width)
            In the order of the params.

        Returns
        -------
        tifs : list of bytes
            One per tif.
        chunk : bytes
            For the OME-Zarr; empty without one.
        """
        params = self._params
        images = [block[i] for i in self._layer_files()] + composites
        tifs = [encode_tile(image, params.tile, params.compression) for image in images]
        chosen = params.written_layers
        zarr = self._zarr
        return tifs, zarr.encode(block[chosen.start : chosen.stop]) if zarr else b""

    def commit(self, tile: Tile, encoded: tuple[list[bytes], bytes]) -> None:
        """Write one tile.

        Parameters
        ----------
        tile : Tile
            Which.
        encoded : tuple
            What :meth:`encode` returned.
        """
        tifs, chunk = encoded
        if self._zarr is not None:
            self._zarr.write(0, tile.row // self._params.tile, tile.col // self._params.tile, chunk)
        if self._stack is not None and tile.index not in self._stack.finished:
            self._stack.write(tile.index, tifs)

    def finish(self, counts: Mapping[str, Any], *, progress: Progress = silent) -> None:
        """Complete everything; the directory's ``render.json`` comes last.

        Parameters
        ----------
        counts : mapping
            Figures for the metadata.
        progress : Progress
            Called during the pyramid.
        """
        if self._zarr is not None:
            self._zarr.finish(self._meta, progress=progress)
        preview = self._preview() if self._params.preview != "none" else None
        if self._stack is not None:
            self._stack.finish()
        if preview is not None:
            preview.save(self._preview_path())
        if self._params.mask:
            self._write_mask()
        directory = self._where.directory
        write_json(directory / META_NAME, {**self._meta, **counts})
        (directory / _IN_WORK_NAME).unlink(missing_ok=True)

    def add_pictures(self) -> None:
        """Write the mask of a complete render where it is wanted and missing."""
        if self._params.mask and not (self._where.directory / _MASK_NAME).exists():
            self._write_mask()

    def _write_mask(self) -> None:
        write_mask(self._where.directory / _MASK_NAME, self._job.geometry, self._job.canvas)

    def _preview_path(self) -> Path:
        return self._where.directory / f"preview.{self._params.preview}"

    def _preview(self) -> Preview:
        """Return a small picture of the first composite, else of the middle layer."""
        params, canvas = self._params, self._job.canvas
        n_layers = len(params.written_layers)
        if self._stack is not None:
            which = len(self._layer_files()) if params.composites else n_layers // 2
            preview = Preview(canvas.shape)
            for index in sorted(self._stack.finished):
                tile = canvas.tile_at(index)
                pixels = self._stack.read(which, index)[: tile.height, : tile.width]
                preview.add(tile.row, tile.col, pixels)
            return preview
        zarr = self._zarr
        if zarr is None:
            raise OutputError(f"{self._where.directory}: nothing was written to preview")
        level = next(
            (i for i, shape in enumerate(zarr.shapes) if max(shape) <= PREVIEW_PIXELS),
            zarr.n_levels - 1,
        )
        rows, cols = zarr.shapes[level]
        preview = Preview((rows, cols))
        for row in range(0, rows, params.tile):
            for col in range(0, cols, params.tile):
                chunk = zarr.read(level, row // params.tile, col // params.tile)
                if chunk is not None:
                    preview.add(row, col, chunk[n_layers // 2, : rows - row, : cols - col])
        return preview

    def close(self) -> None:
        """Close the files; what is finished stays for the next run."""
        if self._stack is not None:
            self._stack.close()


def _is_empty_directory(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
