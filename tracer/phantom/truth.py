"""What is true of a phantom: its sheet, what is torn out of it, and what is written on it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracer.errors import FormatError
from tracer.kernels.phantom_looks import Recipe, find_torn
from tracer.phantom.deformation import Stage, Waves, stage_from_json
from tracer.phantom.sheet import Located, Sheet
from tracer.tif import read_tif

if TYPE_CHECKING:
    from tracer.surface import Surface

FORMAT = "tracer-phantom"
TRUTH_FILE = "truth.json"
INK_FILE = "ink.tif"
_FOREIGN_Z_MARGIN = 32  # empty slices at both ends of a volume whose truth does not say
_DENSE_STEP = 2.0  # voxels of arc length between samples that measure lengths in space


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truth(Sheet):
    """Geometry and ink of one phantom scroll.

    Attributes
    ----------
    size_zyx : tuple of int
        Shape of the volume.
    z_range : tuple of float
        First z and end of z in the volume between which there is a sheet.
    thickness : float
        Thickness of the papyrus, voxels; less where wraps are too close for it.
    half_width : float
        Half the width of the predicted band, voxels.
    voxel_size_um : float
        Size of a voxel.
    recipe : Recipe or None
        The looks, among them where the sheet is torn out; None for a foreign truth.
    source : Path or None
        The truth file; the ink image lies beside it.
    meta : mapping
        Everything else in the truth file.
    """

    size_zyx: tuple[int, int, int]
    z_range: tuple[float, float]
    thickness: float = 0.0
    half_width: float = 2.0
    voxel_size_um: float = 7.91
    recipe: Recipe | None = None
    source: Path | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | str) -> "Truth":
        """Return the truth of a phantom.

        Parameters
        ----------
        path : Path or str
            Phantom directory, or its ``truth.json``; a file with one set of waves (``K``, ``A``,
            ``PH`` at the top level) is read as well.

        Returns
        -------
        Truth
            The truth.

        Raises
        ------
        FormatError
            If the file is missing, not JSON, or lacks a key.
        """
        file = Path(path)
        if file.is_dir():
            file = file / TRUTH_FILE
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
            return cls.from_json(value, source=file)
        except OSError as error:
            raise FormatError(f"{file}: cannot read truth ({error.strerror})") from error
        except KeyError as error:
            raise FormatError(f"{file}: key {error} is missing; not a phantom's truth") from error
        except FormatError as error:
            raise FormatError(f"{file}: {error}") from error
        except (TypeError, ValueError) as error:
            raise FormatError(f"{file}: not a phantom's truth ({error})") from error

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, source: Path | None = None) -> "Truth":
        """Return the truth that a JSON object describes.

        Parameters
        ----------
        value : mapping
            Content of a ``truth.json``.
        source : Path, optional
            The file, where there is one.

        Returns
        -------
        Truth
            The truth.
        """
        size_z, size_y, size_x = (int(n) for n in value["size"])
        first, end = value.get("z_range", (_FOREIGN_Z_MARGIN, size_z - _FOREIGN_Z_MARGIN))
        stages: tuple[Stage, ...]
        if "stages" in value:
            stages = tuple(stage_from_json(stage) for stage in value["stages"])
        else:
            stages = (Waves.from_json(value),)
        return cls(
            centre_xy=(float(value["cx"]), float(value["cy"])),
            pitch=float(value["pitch"]),
            rmin=float(value["rmin"]),
            rmax=float(value["rmax"]),
            size_zyx=(size_z, size_y, size_x),
            z_range=(float(first), float(end)),
            stages=stages,
            thickness=float(value["thick"]),
            half_width=float(value["half"]),
            voxel_size_um=float(value["voxel"]),
            recipe=Recipe(**value["recipe"]) if "recipe" in value else None,
            source=source,
            meta=dict(value.get("meta", {})),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the content of a ``truth.json``.

        Returns
        -------
        dict
            JSON object from which :meth:`from_json` makes an equal truth.
        """
        value = {
            "format": FORMAT,
            "cx": self.centre_xy[0],
            "cy": self.centre_xy[1],
            "pitch": self.pitch,
            "rmin": self.rmin,
            "rmax": self.rmax,
            "size": list(self.size_zyx),
            "z_range": list(self.z_range),
            "stages": [stage.to_json() for stage in self.stages],
            "thick": self.thickness,
            "half": self.half_width,
            "voxel": self.voxel_size_um,
            "meta": dict(self.meta),
        }
        if self.recipe is not None:
            value["recipe"] = self.recipe._asdict()
        return value

    def inside(self, points_xyz: ArrayLike) -> NDArray[np.bool_]:
        """Return whether points lie between the ends of the sheet.

        Parameters
        ----------
        points_xyz : array_like, shape (..., 3)
            Places in the volume, voxels.

        Returns
        -------
        ndarray of bool, shape (...)
            Radius within ``rmin`` and ``rmax`` and z within ``z_range``.
        """
        points = np.asarray(points_xyz, dtype=np.float64)
        return self.is_inside(points, self.locate(points))

    def is_inside(self, points_xyz: NDArray[Any], located: Located) -> NDArray[np.bool_]:
        """Return the same as :meth:`inside` for points that were located before.

        Parameters
        ----------
        points_xyz : ndarray, shape (..., 3)
            Places in the volume, voxels.
        located : Located
            What :meth:`locate` said of them.

        Returns
        -------
        ndarray of bool, shape (...)
            True between the ends of the sheet.
        """
        z = points_xyz[..., 2]
        radial = (located.radius > self.rmin) & (located.radius < self.rmax)
        return np.asarray(radial & (z >= self.z_range[0]) & (z < self.z_range[1]))

    def exists(self, arc_length: ArrayLike, z: ArrayLike) -> NDArray[np.bool_]:
        """Return whether there is papyrus at places of the sheet, which may be torn out.

        Parameters
        ----------
        arc_length : array_like
            Arc length, voxels.
        z : array_like
            Material z, voxels.

        Returns
        -------
        ndarray of bool
            False where the sheet is torn out; its ends are not looked at.
        """
        arc, height = np.broadcast_arrays(
            np.asarray(arc_length, np.float64), np.asarray(z, np.float64)
        )
        torn = np.zeros(arc.shape, np.bool_)
        if self.recipe is not None:
            find_torn(self.recipe, arc.ravel(), height.ravel(), torn.reshape(-1))
        return ~torn

    def ink(self, arc_length: ArrayLike, z: ArrayLike) -> NDArray[np.float64]:
        """Return the ink on the recto.

        Parameters
        ----------
        arc_length : array_like
            Arc length, voxels.
        z : array_like
            Material z, voxels.

        Returns
        -------
        ndarray of float64
            0 bare, 1 inked; linear between pixels, 0 beyond the image.

        Raises
        ------
        FormatError
            If the phantom has no ink image.
        """
        from scipy import ndimage

        image = self.ink_image()
        first_arc, first_z = self.ink_origin()
        arc, height = np.broadcast_arrays(
            np.asarray(arc_length, np.float64), np.asarray(z, np.float64)
        )
        places = np.stack([height - first_z, arc - first_arc]).reshape(2, -1)
        values = ndimage.map_coordinates(image, places, np.float64, order=1, mode="grid-constant")
        return np.asarray(values.reshape(arc.shape) / 255.0)

    def ink_image(self) -> NDArray[np.uint8]:
        """Return the ink image: rows along z, columns along the sheet, one pixel per voxel.

        Returns
        -------
        ndarray of uint8, shape (rows, cols)
            0 bare, 255 inked; the first row lies at ``recipe.ink_z``, the first column at
            ``recipe.ink_arc``.

        Raises
        ------
        FormatError
            If the phantom has none.
        """
        if self.source is None or not self.source.with_name(INK_FILE).exists():
            raise FormatError(f"{self.source}: no {INK_FILE} beside it; make a phantom with a text")
        return _read_ink(self.source.with_name(INK_FILE))

    def ink_origin(self) -> tuple[float, float]:
        """Return where the first pixel of the ink image lies.

        Returns
        -------
        tuple of float
            Arc length and material z, voxels.

        Raises
        ------
        FormatError
            If the truth does not say.
        """
        if self.recipe is None:
            raise FormatError(f"{self.source}: this truth does not say where the ink image lies")
        return self.recipe.ink_arc, self.recipe.ink_z

    def ink_shape(self) -> tuple[int, int]:
        """Return the shape of an ink image that covers the sheet.

        Returns
        -------
        tuple of int
            Rows along z and columns along the sheet.
        """
        first_arc, first_z = self.ink_origin()
        last_arc = float(self.arc_of_theta(self.theta_range[1]))
        last_z = self.z_range[1] + self.z_slack()
        return int(np.ceil(last_z - first_z)) + 1, int(np.ceil(last_arc - first_arc)) + 1

    def recto_grid(
        self, step: float
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
        """Return the true recto as a grid: rows of constant z, columns along the sheet.

        Parameters
        ----------
        step : float
            Spacing in voxels; along the sheet it is measured in space at mid height, elsewhere it
            varies with the deformation.

        Returns
        -------
        points_xyz : ndarray of float64, shape (rows, cols, 3)
            Places in the volume.
        valid : ndarray of bool, shape (rows, cols)
            Whether the place lies within `z_range` and is not torn out.
        theta : ndarray of float64, shape (cols,)
            Total angle of each column.
        z : ndarray of float64, shape (rows,)
            Material z of each row.
        """
        first, last = self.theta_range
        z_first, z_end = self.z_range
        arcs = self.arc_of_theta(np.array([first, last]))
        n_dense = max(2, round(float(arcs[1] - arcs[0]) / _DENSE_STEP))
        dense = self.theta_of_arc(np.linspace(arcs[0], arcs[1], n_dense))
        line = self.point(dense, 0.5 * (z_first + z_end))
        length = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))]
        theta = np.interp(np.arange(0.0, length[-1], step), length, dense)
        slack = self.z_slack()
        rows = np.arange(np.floor((z_first - slack) / step), np.ceil((z_end + slack) / step) + 1)
        z = rows * step
        points = self.point(theta[None, :], z[:, None])
        valid = (points[..., 2] >= z_first) & (points[..., 2] < z_end)
        valid &= self.exists(self.arc_of_theta(theta)[None, :], z[:, None])
        used = np.flatnonzero(valid.any(axis=1))
        rows_used = slice(int(used[0]), int(used[-1]) + 1)
        return points[rows_used], valid[rows_used], theta, z[rows_used]

    def recto_surface(self, step: float) -> "Surface":
        """Return the true recto as a surface.

        Parameters
        ----------
        step : float
            Spacing of the grid, voxels.

        Returns
        -------
        Surface
            One column per step along the sheet, one row per step of z.
        """
        from tracer.surface import Surface

        points, valid, _, _ = self.recto_grid(step)
        return Surface(
            points_xyz=points.astype(np.float32),
            valid=valid,
            scale=(1.0 / step, 1.0 / step),
            channels={},
            meta={"source": "tracer phantom truth"},
        )


@lru_cache(maxsize=2)
def _read_ink(path: Path) -> NDArray[np.uint8]:
    return np.asarray(read_tif(path), np.uint8)
