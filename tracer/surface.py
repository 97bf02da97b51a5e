"""The quad mesh that everything works on: a grid of vertices, read from and written to tifxyz.

Conventions
-----------
``points_xyz[row, col]`` is one vertex in voxels of the full-resolution volume. Four valid
neighbours form a quad; inside it the surface is the bilinear patch of its corners. ``scale`` is
(cells per voxel along columns, along rows), so 1 / scale is the step. Invalid vertices are marked
by ``valid``; their coordinates are (-1, -1, -1).

Laws: ``Surface.load(surface.save(d))`` equals ``surface`` bit for bit in points, validity,
scale and channels; a directory that exists under its final name with ``meta.json`` is complete.
"""

import contextlib
import dataclasses
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from tracer import tifxyz
from tracer.atomic import replacing_directory, temporary_beside, write_json
from tracer.errors import OutputError, SurfaceError, TracerWarning
from tracer.tif import write_tif

SCALE_FACTOR_LIMIT = 2.0  # measured spacing against 1 / scale; correct surfaces are within 1.2
UM_PER_CM = 1e4
_RESERVED = frozenset((*tifxyz.COORDINATES, "mask"))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Surface:
    """A quad mesh with channels and metadata; immutable.

    Attributes
    ----------
    points_xyz : ndarray of float32, shape (rows, cols, 3)
        Vertices in voxels, (-1, -1, -1) where invalid; read-only.
    valid : ndarray of bool, shape (rows, cols)
        Which vertices exist; read-only. Vertices with z <= 0 or a coordinate that is not finite
        never do.
    scale : tuple of float
        (sx, sy): cells per voxel along columns and rows; 1 / step.
    channels : mapping of str to ndarray, shape (rows, cols) or (rows, cols, k)
        Further grids, e.g. ``generations``, ``confidence``, ``winding``.
    meta : mapping
        Content of ``meta.json``. What follows from the geometry (bbox, area, scale, channels,
        uuid) is written from the geometry, not from here.
    """

    points_xyz: NDArray[np.float32]
    valid: NDArray[np.bool_]
    scale: tuple[float, float] = (0.05, 0.05)
    channels: Mapping[str, NDArray[Any]] = dataclasses.field(default_factory=dict)
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        points = _frozen(self.points_xyz, np.float32)
        valid = _frozen(self.valid, np.bool_)
        if points.ndim != 3 or points.shape[2] != 3 or points.size == 0:
            raise SurfaceError(
                f"points_xyz has shape {points.shape}; it must be (rows, cols, 3), not empty"
            )
        if valid.shape != points.shape[:2]:
            raise SurfaceError(
                f"valid has shape {valid.shape} but points_xyz {points.shape}; they must agree"
            )
        if np.shape(self.scale) != (2,) or not all(np.isfinite(s) and s > 0 for s in self.scale):
            raise SurfaceError(f"scale is {self.scale}; it must be two positive numbers (1 / step)")
        points, valid = _canonical(points, valid)
        channels = {}
        for name, grid in sorted(self.channels.items()):
            if name in _RESERVED or not name or Path(name).name != name:
                raise SurfaceError(f"channel name '{name}' cannot be a file of its own; rename it")
            channels[name] = _frozen(grid, None)
            if channels[name].shape[:2] != valid.shape:
                raise SurfaceError(
                    f"channel '{name}' has shape {grid.shape}; the grid has {valid.shape}"
                )
        object.__setattr__(self, "points_xyz", points)
        object.__setattr__(self, "valid", valid)
        object.__setattr__(self, "scale", (float(self.scale[0]), float(self.scale[1])))
        object.__setattr__(self, "channels", MappingProxyType(channels))
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to make the same surface in another process."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values.update(channels=dict(self.channels), meta=dict(self.meta))
        return _made_of, (values,)

    @property
    def shape(self) -> tuple[int, int]:
        """Return (rows, cols) of the grid.

        Returns
        -------
        tuple of int
            Numbers of vertices along rows and columns.
        """
        return self.valid.shape[0], self.valid.shape[1]

    @property
    def name(self) -> str:
        """Return the name that the surface was loaded or saved under.

        Returns
        -------
        str
            The ``uuid`` of the metadata; empty for a surface that has never been saved.
        """
        return str(self.meta.get("uuid", ""))

    @property
    def step(self) -> float:
        """Return the nominal distance of neighbouring vertices along a row.

        Returns
        -------
        float
            1 / scale[0], in voxels.
        """
        return 1.0 / self.scale[0]

    @property
    def valid_quads(self) -> NDArray[np.bool_]:
        """Return which cells are quads of the surface.

        Returns
        -------
        ndarray of bool, shape (rows - 1, cols - 1)
            True where all four corners are valid.
        """
        valid = self.valid
        return valid[:-1, :-1] & valid[:-1, 1:] & valid[1:, :-1] & valid[1:, 1:]

    @property
    def area_vx2(self) -> float:
        """Return the area of all quads, from their real geometry.

        Returns
        -------
        float
            Voxels squared.

        Notes
        -----
        VC3D stores the number of cells times the nominal step squared instead, which is larger by
        about 5 % on its own patches because it also counts cells at the rim with invalid corners.
        """
        return float(self.quad_areas().sum())

    @property
    def bbox_xyz(self) -> NDArray[np.float64]:
        """Return the bounding box of the valid vertices.

        Returns
        -------
        ndarray of float64, shape (2, 3)
            Lowest and highest x, y, z; NaN where no vertex is valid.
        """
        if not self.valid.any():
            return np.full((2, 3), np.nan)
        points = self.points_xyz[self.valid].astype(np.float64)
        return np.stack([points.min(axis=0), points.max(axis=0)])

    def area_cm2(self, voxel_size_um: float) -> float:
        """Return the area of all quads in square centimetres.

        Parameters
        ----------
        voxel_size_um : float
            Edge of a level-0 voxel in micrometres.

        Returns
        -------
        float
            Area in cm².
        """
        return self.area_vx2 * (voxel_size_um / UM_PER_CM) ** 2

    def quad_areas(self) -> NDArray[np.float64]:
        """Return the area of every cell.

        Returns
        -------
        ndarray of float64, shape (rows - 1, cols - 1)
            Voxels squared; 0 where a corner is invalid.
        """
        from tracer.kernels.quad_mesh import quad_areas

        areas = np.zeros((self.shape[0] - 1, self.shape[1] - 1))
        quad_areas(self.points_xyz, self.valid, areas)
        return areas

    def normals(self) -> NDArray[np.float32]:
        """Return unit normals d/dcol x d/drow at the vertices.

        Returns
        -------
        ndarray of float32, shape (rows, cols, 3)
            NaN where undefined: invalid vertices, no valid neighbour along an axis, degenerate.
        """
        from tracer.kernels.quad_mesh import vertex_normals

        normals = np.empty_like(self.points_xyz)
        vertex_normals(self.points_xyz, self.valid, normals)
        return normals

    def sample(
        self, rows: ArrayLike, cols: ArrayLike
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return surface points at fractional grid positions, bilinear.

        Parameters
        ----------
        rows : array_like of float
            Fractional rows, any shape.
        cols : array_like of float
            Fractional columns, broadcast against `rows`.

        Returns
        -------
        points_xyz : ndarray of float32, shape (..., 3)
            NaN where there is no surface.
        valid : ndarray of bool, shape (...)
            False outside the grid and where a vertex with a non-zero weight is invalid.
        """
        from tracer.kernels.quad_mesh import sample_points

        at_rows, at_cols = np.broadcast_arrays(
            np.asarray(rows, dtype=np.float64), np.asarray(cols, dtype=np.float64)
        )
        points = np.empty((at_rows.size, 3), dtype=np.float32)
        valid = np.empty(at_rows.size, dtype=bool)
        sample_points(
            self.points_xyz,
            self.valid,
            np.ascontiguousarray(at_rows).ravel(),
            np.ascontiguousarray(at_cols).ravel(),
            points,
            valid,
        )
        return points.reshape(*at_rows.shape, 3), valid.reshape(at_rows.shape)

    def spacing(self) -> tuple[float, float]:
        """Return the measured distances of neighbouring valid vertices.

        Returns
        -------
        tuple of float
            Medians in voxels (along a row, along a column); NaN where there are no neighbours.
        """
        points, valid = self.points_xyz, self.valid
        along_row = _median_length(points[:, 1:] - points[:, :-1], valid[:, 1:] & valid[:, :-1])
        along_col = _median_length(points[1:] - points[:-1], valid[1:] & valid[:-1])
        return along_row, along_col

    def validate(self, *, where: str = "surface") -> None:
        """Check every structural invariant and whether the scale is believable.

        Parameters
        ----------
        where : str
            What to call the surface in messages.

        Raises
        ------
        SurfaceError
            If no vertex is valid, or an invalid vertex carries coordinates.

        Warns
        -----
        TracerWarning
            If the median spacing disagrees with 1 / scale by more than a factor of 2.

        Notes
        -----
        Shapes, dtypes, finiteness and channel shapes hold by construction.
        """
        if not self.valid.any():
            raise SurfaceError(f"{where}: no vertex is valid; there is no surface")
        if not (self.points_xyz[~self.valid] == -1.0).all():
            raise SurfaceError(f"{where}: invalid vertices must be (-1, -1, -1)")
        self._check_scale(where)

    def _check_scale(self, where: str) -> None:
        wrong = []
        for label, measured, scale in zip(
            ("along rows (scale[0])", "along columns (scale[1])"),
            self.spacing(),
            self.scale,
            strict=True,
        ):
            ratio = measured * scale
            if np.isfinite(ratio) and not 1 / SCALE_FACTOR_LIMIT <= ratio <= SCALE_FACTOR_LIMIT:
                wrong.append(
                    f"{label} vertices are {measured:.3g} voxels apart but scale {scale:g} means "
                    f"{1 / scale:.3g}"
                )
        if wrong:
            warnings.warn(
                f"{where}: wrong scale: {'; '.join(wrong)}; lengths and pixel sizes derived from "
                "the scale are wrong, correct scale in meta.json to 1 / spacing",
                TracerWarning,
                stacklevel=3,
            )

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        apply_mask: bool = True,
        channels: Iterable[str] | None = None,
    ) -> Self:
        """Return the surface in a tifxyz directory.

        Parameters
        ----------
        path : str or Path
            Surface directory.
        apply_mask : bool
            Make the vertices that ``mask.tif`` masks out invalid.
        channels : iterable of str, optional
            Names of the channels to read; all that the metadata lists where omitted.

        Returns
        -------
        Surface
            With ``meta`` as stored.

        Raises
        ------
        SurfaceError
            If the directory is missing or unfinished.
        FormatError
            If a file is missing, truncated, foreign or inconsistent.

        Warns
        -----
        TracerWarning
            If the scale is wrong by more than a factor of 2, or a listed channel does not fit.
        """
        directory = Path(path)
        meta = tifxyz.read_meta(directory)
        scale = tifxyz.parse_scale(meta, directory)
        points = tifxyz.read_points(directory)
        shape = (points.shape[0], points.shape[1])
        valid = np.ones(shape, dtype=bool)
        mask = tifxyz.read_mask(directory, shape) if apply_mask else None
        if mask is not None:
            valid &= mask
        valid &= points[..., 2] > 0
        points[~valid] = -1.0
        points.setflags(write=False)  # handed over, so that it need not be copied
        valid.setflags(write=False)
        surface = cls(
            points_xyz=points,
            valid=valid,
            scale=scale,
            channels=tifxyz.read_channels(directory, meta, shape, channels),
            meta=meta,
        )
        surface._check_scale(str(directory))
        return surface

    def save(self, directory: str | Path, *, overwrite: bool = False) -> Path:
        """Write the surface as a tifxyz directory that appears whole.

        Parameters
        ----------
        directory : str or Path
            Directory to create; its name becomes the ``uuid``. Parents are created.
        overwrite : bool
            Replace an existing surface, with its mask, overlaps and tags, instead of refusing.

        Returns
        -------
        Path
            The directory.

        Raises
        ------
        SurfaceError
            If no vertex is valid.
        OutputError
            If the directory exists or cannot be written; nothing is left behind then.
        """
        target = Path(directory).absolute()
        meta = self._meta_to_write(target.name)
        if overwrite:
            with replacing_directory(target) as temporary:
                self._write_files(temporary, meta)
            return target
        if target.exists() and not _is_empty_directory(target):
            raise OutputError(f"{target}: exists already; choose another name or overwrite it")
        with _new_temporary(target) as temporary:
            self._write_files(temporary, meta)
            temporary.rename(target)  # fails if another process has filled it meanwhile
        return target

    def save_new(self, parent: str | Path, *, prefix: str = "auto_grown") -> Path:
        """Write the surface under a fresh name ``<prefix>_<YYYYmmddHHMMSSmmm>``.

        Parameters
        ----------
        parent : str or Path
            Existing directory, e.g. the ``paths/`` of a collection.
        prefix : str
            First part of the name.

        Returns
        -------
        Path
            The new directory. Its name belongs to this call alone, whatever other processes save
            at the same time.

        Raises
        ------
        SurfaceError
            If no vertex is valid.
        OutputError
            If the directory cannot be written; nothing is left behind then.
        """
        folder = Path(parent).absolute()
        meta = self._meta_to_write(prefix)
        with _new_temporary(folder / prefix) as temporary:
            self._write_files(temporary, meta)
            reserved = tifxyz.reserve_name(folder, prefix)
            try:
                write_json(temporary / tifxyz.META_NAME, {**meta, "uuid": reserved.name})
                temporary.rename(reserved)  # replaces the empty reservation in one step
            except BaseException:
                with contextlib.suppress(OSError):
                    reserved.rmdir()
                raise
        return reserved

    def _write_files(self, directory: Path, meta: Mapping[str, Any]) -> None:
        for axis, name in enumerate(tifxyz.COORDINATES):
            write_tif(directory / f"{name}.tif", self.points_xyz[..., axis])
        for name, grid in self.channels.items():
            write_tif(directory / f"{name}.tif", grid)
        write_json(directory / tifxyz.META_NAME, meta)  # last: it makes the surface a finished one

    def _meta_to_write(self, name: str) -> dict[str, Any]:
        if not self.valid.any():
            raise SurfaceError(f"{name}: no vertex is valid; there is no surface to save")
        meta = dict(self.meta)
        meta.update(
            format=tifxyz.FORMAT,
            type=meta.get("type", "seg"),
            uuid=name,
            scale=list(self.scale),
            bbox=self.bbox_xyz.tolist(),
            area_vx2=self.area_vx2,
            channels=sorted(self.channels),
        )
        voxel_size_um = tifxyz.voxel_size_um(self.meta)
        if voxel_size_um is not None:
            meta["area_cm2"] = self.area_cm2(voxel_size_um)
        else:
            meta.pop("area_cm2", None)  # it would contradict the area
        plain: dict[str, Any] = tifxyz.plain_json(meta)
        return plain


def _frozen(array: ArrayLike, dtype: DTypeLike | None) -> NDArray[Any]:
    """Return a read-only C-contiguous array; a copy unless it is one already."""
    given = np.asarray(array)
    wanted = given.dtype if dtype is None else np.dtype(dtype)
    if given.dtype == wanted and given.flags.c_contiguous and not given.flags.writeable:
        return given
    copy = np.array(given, dtype=wanted, order="C")
    copy.setflags(write=False)
    return copy


def _canonical(
    points: NDArray[np.float32], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return read-only arrays in which z <= 0 and NaN are invalid and invalid is (-1, -1, -1)."""
    usable = (points[..., 2] > 0) & np.isfinite(points).all(axis=-1)
    if not (valid <= usable).all():
        valid = valid & usable
        valid.setflags(write=False)
    if not (points[~valid] == -1.0).all():
        points = points.copy()
        points[~valid] = -1.0
        points.setflags(write=False)
    return points, valid


def _median_length(vectors: NDArray[np.float32], valid: NDArray[np.bool_]) -> float:
    if not valid.any():
        return float("nan")
    return float(np.median(np.linalg.norm(vectors[valid].astype(np.float64), axis=-1)))


def _is_empty_directory(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


@contextlib.contextmanager
def _new_temporary(target: Path) -> Iterator[Path]:
    """Yield a temporary directory beside `target`; it is gone afterwards, renamed or removed."""
    temporary = temporary_beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{target}: cannot write ({error.strerror or error}); check permissions, free space "
            "and whether it exists already"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _made_of(values: dict[str, Any]) -> Surface:
    """Return the surface of its fields; see :meth:`Surface.__reduce__`."""
    return Surface(**values)
