"""Masks of surfaces: parts that an annotator takes out, and the picture to draw them on.

``mask.tif`` has the mask as page 0 (255 keeps, 0 takes out) and may have a picture of the surface
as page 1, of the same size. Both are k times finer than the grid; pixel (i, j) shows grid position
((i + 0.5) / k, (j + 0.5) / k), as rendered layers do, and pixel (r k, c k) decides on vertex
(r, c).
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer import tifxyz
from tracer.atomic import replacing_file
from tracer.errors import FormatError, ParamsError
from tracer.surface import Surface
from tracer.tif import read_tif, write_pages

if TYPE_CHECKING:
    from tracer.volume import Volume

_TIF_SUFFIXES = (".tif", ".tiff")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MaskResult:
    """What was written.

    Attributes
    ----------
    path : Path
        The mask.
    factor : tuple of int
        Pixels per grid cell along rows and columns.
    n_valid : int
        Vertices of the surface.
    n_kept : int
        Those that the mask keeps.
    """

    path: Path
    factor: tuple[int, int]
    n_valid: int
    n_kept: int

    def summary(self) -> str:
        """Return the result in words.

        Returns
        -------
        str
            One line.
        """
        share = 100.0 * self.n_kept / max(self.n_valid, 1)
        return (
            f"{self.path}: keeps {self.n_kept} of {self.n_valid} vertices ({share:.1f} %), "
            f"{self.factor[0]} x {self.factor[1]} pixels per cell"
        )


def write_mask(segment: str | Path, image: str | Path) -> MaskResult:
    """Use an image as the mask of a surface.

    Parameters
    ----------
    segment : str or Path
        Surface directory.
    image : str or Path
        Tif, png or anything that Pillow reads, of the grid's size or an integer multiple. White
        keeps. Further pages of a tif are kept.

    Returns
    -------
    MaskResult
        What was written.

    Raises
    ------
    SurfaceError
        If the surface is missing or unfinished.
    FormatError
        If the image is unreadable or its size does not fit.
    OutputError
        If the mask cannot be written.
    """
    directory = Path(segment)
    surface = Surface.load(directory, apply_mask=False, channels=())
    pages = read_pages(Path(image))
    kept = tifxyz.fit_mask(pages[0], surface.shape, where=image)
    plane = pages[0][..., 0] if pages[0].ndim == 3 else pages[0]
    threshold = tifxyz.mask_threshold(plane)
    mask = np.where(plane >= threshold, 255, 0).astype(np.uint8)
    return _write(directory, surface, kept, [mask, *pages[1:]])


def merge_masks(segment: str | Path, images: Sequence[Path], *, keep: str = "all") -> MaskResult:
    """Use several images as the one mask of a surface.

    Parameters
    ----------
    segment : str or Path
        Surface directory.
    images : sequence of Path
        Masks as :func:`write_mask` takes them.
    keep : str
        ``all``: a vertex stays that all masks keep; ``any``: that one of them keeps.

    Returns
    -------
    MaskResult
        What was written, at the grid's size.

    Raises
    ------
    SurfaceError
        If the surface is missing or unfinished.
    FormatError
        If an image is unreadable or its size does not fit.
    OutputError
        If the mask cannot be written.
    """
    directory = Path(segment)
    surface = Surface.load(directory, apply_mask=False, channels=())
    masks = [tifxyz.fit_mask(read_pages(path)[0], surface.shape, where=path) for path in images]
    kept = np.all(masks, axis=0) if keep == "all" else np.any(masks, axis=0)
    return _write(directory, surface, kept, [np.where(kept, 255, 0).astype(np.uint8)])


def write_template(
    segment: str | Path,
    volume: "Volume",
    *,
    scale: float = 1.0,
    level: int = 0,
) -> MaskResult:
    """Write a mask to edit, with a picture of the surface as its second page.

    Parameters
    ----------
    segment : str or Path
        Surface directory. The kept parts of a mask that it has already stay the same.
    volume : Volume
        What the picture shows.
    scale : float
        Pixels per voxel of the level, rounded to whole pixels per cell.
    level : int
        OME-Zarr level to sample.

    Returns
    -------
    MaskResult
        What was written.

    Raises
    ------
    ParamsError
        If the scale is not positive.
    SurfaceError
        If the surface is missing, unfinished or outside the volume.
    VolumeError
        If the volume cannot be read.
    OutputError
        If the mask cannot be written.
    """
    from tracer.render import RenderParams, render_layers

    if not (np.isfinite(scale) and scale > 0):
        raise ParamsError(f"scale is {scale}; it must be positive")
    directory = Path(segment)
    surface = Surface.load(directory, apply_mask=False, channels=())
    kept = tifxyz.read_mask(directory, surface.shape)
    kept = surface.valid if kept is None else kept & surface.valid
    per_voxel = scale * 0.5**level
    factor = (
        max(1, round(per_voxel / surface.scale[1])),
        max(1, round(per_voxel / surface.scale[0])),
    )
    # A surface that claims this scale is rendered with exactly these whole pixels per cell.
    claimed = dataclasses.replace(surface, scale=(0.5**level / factor[1], 0.5**level / factor[0]))
    (picture,) = render_layers(volume, claimed, RenderParams(level=level))
    mask = np.where(np.kron(kept, np.ones(factor, dtype=bool)), 255, 0).astype(np.uint8)
    return _write(directory, surface, kept, [mask, picture])


def read_pages(path: Path) -> list[NDArray[Any]]:
    """Return the pages of a mask.

    Parameters
    ----------
    path : Path
        Tif, png or anything that Pillow reads.

    Returns
    -------
    list of ndarray
        Page 0 is the mask.

    Raises
    ------
    FormatError
        If it is not readable.
    """
    if path.suffix.lower() not in _TIF_SUFFIXES:
        return [_read_picture(path)]
    first = read_tif(path)
    import tifffile

    with tifffile.TiffFile(path) as tif:
        return [first, *(page.asarray() for page in tif.pages[1:])]


def _read_picture(path: Path) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L"))
    except (OSError, UnidentifiedImageError) as error:
        raise FormatError(f"{path}: not a readable image ({error}); give a tif or png") from error


def _write(
    directory: Path, surface: Surface, kept: NDArray[np.bool_], pages: list[NDArray[Any]]
) -> MaskResult:
    path = directory / tifxyz.MASK_NAME
    with replacing_file(path) as temporary:
        write_pages(temporary, pages)
    return MaskResult(
        path=path,
        factor=(pages[0].shape[0] // surface.shape[0], pages[0].shape[1] // surface.shape[1]),
        n_valid=int(surface.valid.sum()),
        n_kept=int((surface.valid & kept).sum()),
    )
