"""Checkpoints: the good part of a trace becomes a patch of the collection, for the next trace.

A person who looks at a trace keeps what is right. That part, cropped and masked, is saved among the
patches as one large *super-patch*, connected to those that it overlaps, and approved: the next
trace takes its nodes at once, and goes on beyond its rim.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tracer import __version__, tifxyz
from tracer.collection import PatchCollection
from tracer.errors import CollectionError, NothingFoundError, ParamsError
from tracer.mask import read_pages
from tracer.progress import Progress, silent
from tracer.surface import Surface

SOURCE = "tracer checkpoint"
PREFIX = "checkpoint"
_PREVIEW = "z_dbg_gen_"  # traces pass over surfaces of such a name

Region = tuple[slice, slice]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointResult:
    """What was added to the collection.

    Attributes
    ----------
    path : Path
        The super-patch.
    n_kept : int
        Its vertices.
    n_trace : int
        Vertices of the trace.
    area_vx2 : float
        Its area.
    overlaps : tuple of str
        Patches that it overlaps.
    approved : bool
        Whether it is approved.
    """

    path: Path
    n_kept: int
    n_trace: int
    area_vx2: float
    overlaps: tuple[str, ...]
    approved: bool

    def summary(self) -> str:
        """Return the result in words.

        Returns
        -------
        str
            Two lines.
        """
        share = 100.0 * self.n_kept / self.n_trace
        return (
            f"kept {self.n_kept} of {self.n_trace} vertices ({share:.1f} %), "
            f"{self.area_vx2:.0f} vx2; overlaps {len(self.overlaps)} patches\n"
            f"wrote {self.path}{', approved' if self.approved else ''}"
        )


def parse_region(text: str) -> Region:
    """Return the region that a text names.

    Parameters
    ----------
    text : str
        ``r0:r1,c0:c1`` in cells of the trace's grid, ends exclusive; a number may be left out.

    Returns
    -------
    tuple of slice
        Rows and columns.

    Raises
    ------
    ParamsError
        If it is written otherwise, or empty.
    """
    parts = [[word.strip() for word in part.split(":")] for part in text.split(",")]
    words = [word for part in parts for word in part]
    wrong = len(parts) != 2 or any(len(part) != 2 for part in parts)
    if wrong or not all(word.isdecimal() for word in words if word):
        raise ParamsError(
            f"region '{text}' is not r0:r1,c0:c1; write e.g. 0:40,120:300, or :,120:300 for all "
            "rows"
        )
    rows, cols = (slice(*(int(word) if word else None for word in part)) for part in parts)
    for axis in (rows, cols):
        if axis.stop is not None and axis.stop <= (axis.start or 0):
            raise ParamsError(f"region '{text}' is empty; the end must be above the beginning")
    return rows, cols


def checkpoint(
    trace: str | Path,
    paths: str | Path,
    *,
    region: Region | None = None,
    mask: str | Path | None = None,
    name: str = "",
    approval: Mapping[str, Any] | None = None,
    tolerance: float = 2.0,
    progress: Progress = silent,
) -> CheckpointResult:
    """Add a part of a trace to a collection as a super-patch, with its overlaps.

    Parameters
    ----------
    trace : str or Path
        Surface directory; its own mask counts.
    paths : str or Path
        The collection.
    region : tuple of slice, optional
        Rows and columns of the trace to keep; all where omitted.
    mask : str or Path, optional
        Image of the trace's size, or a multiple of it; white keeps.
    name : str
        Name of the super-patch; ``checkpoint_<time>`` where empty.
    approval : mapping, optional
        Details of the tag ``approved``, which it then has from the first moment on.
    tolerance : float
        Voxels within which patches overlap.
    progress : Progress
        Called after each of the two steps.

    Returns
    -------
    CheckpointResult
        What was added.

    Raises
    ------
    CollectionError
        If the collection is not there, or the name is taken or impossible.
    NothingFoundError
        If no quad is left.
    SurfaceError
        If the trace is missing or unfinished.
    FormatError
        If the mask cannot be read or its size does not fit.
    OutputError
        If the collection cannot be written.
    """
    collection = PatchCollection.open(paths)
    _check_name(collection, name)
    surface = Surface.load(trace)
    part = _cut(surface, region, mask)
    meta = {key: value for key, value in surface.meta.items() if key not in ("tags", "channels")}
    meta |= {
        "source": SOURCE,
        "tracer_version": __version__,
        "checkpoint_of": {
            "trace": surface.name,
            "source": surface.meta.get("source"),
            "tracer_version": surface.meta.get("tracer_version"),
            "region": _region_text(region),
            "mask": None if mask is None else Path(mask).name,
        },
        "tags": {} if approval is None else {"approved": dict(approval)},
    }
    part = dataclasses.replace(part, meta=meta)
    if name:
        path = part.save(collection.path / name)
    else:
        path = part.save_new(collection.path, prefix=PREFIX)
    progress(1, 2, f"saved {path.name}")
    overlaps = collection.record_overlaps(path.name, tolerance=tolerance)
    progress(2, 2, "overlaps")
    return CheckpointResult(
        path=path,
        n_kept=int(part.valid.sum()),
        n_trace=int(surface.valid.sum()),
        area_vx2=part.area_vx2,
        overlaps=tuple(overlaps),
        approved=approval is not None,
    )


def _check_name(collection: PatchCollection, name: str) -> None:
    """Refuse names that a collection or a trace would pass over, and those that exist."""
    if not name:
        return
    if "/" in name or name.startswith((".", _PREVIEW)):
        raise CollectionError(
            f"'{name}' cannot be the name of a patch; give one without '/' that begins neither "
            f"with a dot nor with {_PREVIEW}"
        )
    if (collection.path / name).exists():
        raise CollectionError(f"{collection.path}: there is a '{name}' already; give another name")


def _cut(surface: Surface, region: Region | None, mask: str | Path | None) -> Surface:
    """Return the part of a surface inside region and mask, cropped to it."""
    kept = surface.valid.copy()
    if mask is not None:
        kept &= tifxyz.fit_mask(read_pages(Path(mask))[0], surface.shape, where=Path(mask))
    if region is not None:
        inside = np.zeros_like(kept)
        inside[region] = True
        kept &= inside
    quads = kept[:-1, :-1] & kept[:-1, 1:] & kept[1:, :-1] & kept[1:, 1:]
    if not quads.any():
        raise NothingFoundError(
            f"{surface.name}: region and mask leave no quad of {surface.shape[0]} x "
            f"{surface.shape[1]} vertices; check them"
        )
    rows, cols = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    box = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
    points = np.where(kept[box][..., None], surface.points_xyz[box], np.float32(-1.0))
    same = {n: grid for n, grid in surface.channels.items() if grid.shape[:2] == surface.shape}
    return dataclasses.replace(
        surface,
        points_xyz=points,
        valid=kept[box],
        channels={
            n: np.where(kept[box], grid[box], 0).astype(grid.dtype) for n, grid in same.items()
        },
    )


def _region_text(region: Region | None) -> str | None:
    if region is None:
        return None
    ends = [("" if end is None else str(end)) for axis in region for end in (axis.start, axis.stop)]
    return f"{ends[0]}:{ends[1]},{ends[2]}:{ends[3]}"
