"""The patches that a trace is laid over: loaded, cut where they are known to jump, indexed."""

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import CollectionError, FormatError, TracerError, TracerWarning
from tracer.index_segment import PatchGrid, build_segment
from tracer.surface import Surface

if TYPE_CHECKING:
    from tracer.kernels.trace_state import PatchTable
    from tracer.unroll.flat_patches import FlatPatches

RESULTS = frozenset({"tracer trace", "tracer unroll", "vc_grow_seg_from_segments"})
"""Sources of surfaces that are made of patches and would be counted twice."""

_PREVIEW = "z_dbg_gen_"
_FEWEST_QUADS = 4  # of a piece of a cut patch
_SCALE_RATIO = 1.1  # beyond which cells are not square enough to measure in them


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Suspicions:
    """Where patches are known to leave their sheet.

    Attributes
    ----------
    cells : mapping of str to list of (row, col)
        Vertices to leave out, by patch.
    excluded : frozenset of str
        Patches to leave out.
    sources : tuple of str
        Files they come from, or ``winding check``.
    """

    cells: Mapping[str, list[tuple[int, int]]] = dataclasses.field(default_factory=dict)
    excluded: frozenset[str] = frozenset()
    sources: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TracePatches:
    """Patches ready to be traced; a patch that was cut is there once for each piece.

    Attributes
    ----------
    names : tuple of str
        Name of each patch or piece.
    surfaces : tuple of Surface
        Its geometry, without what was left out.
    approved : frozenset of str
        Names of the patches that a person approved.
    suspicions : Suspicions
        What was left out.
    layout : FlatPatches or None
        All patches laid out flat, where that was possible.
    """

    names: tuple[str, ...]
    surfaces: tuple[Surface, ...]
    approved: frozenset[str]
    suspicions: Suspicions
    layout: "FlatPatches | None" = None

    def table(self, spacing: float, seed: int = -1) -> "PatchTable":
        """Return the patches as kernels take them.

        Parameters
        ----------
        spacing : float
            Voxels between nodes of the trace.
        seed : int
            The patch that the trace begins on: the layout is that of patches connected to it.

        Returns
        -------
        PatchTable
            With the index of all quads.
        """
        from tracer.kernels.trace_state import PatchTable

        segment = build_segment(
            [PatchGrid.of_surface(f"{i:06d}", surface) for i, surface in enumerate(self.surfaces)]
        )
        guide = build_segment(self._flat_grids(seed))
        return PatchTable(
            mesh=segment.view,
            levels=segment.levels,
            ids=np.arange(len(self.names), dtype=np.int32),
            rows=np.array([s.shape[0] for s in self.surfaces], dtype=np.int64),
            cells=np.array([spacing * _cells_per_voxel(s) for s in self.surfaces]),
            approved=np.array([name in self.approved for name in self.names], dtype=np.bool_),
            guide=guide.view,
            guide_levels=guide.levels if seed >= 0 else 0,
        )

    def _flat_grids(self, seed: int) -> list[PatchGrid]:
        """Return the patches as grids of (u, v, 0); all NaN where there is no layout."""
        layout = self.layout
        component = -1
        if layout is not None and seed >= 0:
            mine = layout.component[self.names[seed]][self.surfaces[seed].valid]
            counted = np.bincount(mine[mine >= 0], minlength=1)
            component = int(counted.argmax()) if counted.any() else -1
        grids = []
        for i, (name, surface) in enumerate(zip(self.names, self.surfaces, strict=True)):
            points = np.full((*surface.shape, 3), np.nan, np.float32)
            if layout is not None and component >= 0:
                known = surface.valid & (layout.component[name] == component)
                points[known, :2] = layout.uv[name][known]
                points[known, 2] = 0.0
            grids.append(PatchGrid(name=f"{i:06d}", fingerprint="", points_xyz=points))
        return grids

    def digest(self) -> str:
        """Return what tells these patches from others.

        Returns
        -------
        str
            Hexadecimal; changes with any name, vertex, mask, cut or approval.
        """
        found = hashlib.sha256()
        for name, surface in zip(self.names, self.surfaces, strict=True):
            found.update(f"{name} {surface.shape} {name in self.approved}\n".encode())
            found.update(surface.points_xyz.tobytes())
            found.update(surface.valid.tobytes())
        return found.hexdigest()[:32]

    def pieces_of(self, name: str) -> list[int]:
        """Return the numbers of the pieces of a patch, the largest first.

        Parameters
        ----------
        name : str
            Name of a patch.

        Returns
        -------
        list of int
            Empty where nothing of it is left.
        """
        found = [i for i, other in enumerate(self.names) if other == name]
        return sorted(found, key=lambda i: (-int(self.surfaces[i].valid_quads.sum()), i))


def _cells_per_voxel(surface: Surface) -> float:
    """Return the cells of a patch per voxel; its geometric mean where cells are not square."""
    sx, sy = surface.scale
    if max(sx / sy, sy / sx) > _SCALE_RATIO:
        warnings.warn(
            f"{surface.name}: scale {sx:g}, {sy:g}: cells are not square; the trace takes their "
            "mean and may not follow this patch",
            TracerWarning,
            stacklevel=2,
        )
    return float(np.sqrt(sx * sy))


def load_surfaces(
    paths: Path, heights: tuple[float, float] = (-np.inf, np.inf)
) -> dict[str, Surface]:
    """Return the patches of a collection that a trace may use.

    Parameters
    ----------
    paths : Path
        The collection.
    heights : tuple of float
        Lowest and highest z of the trace, voxels; patches that do not reach there are left out.

    Returns
    -------
    dict of str to Surface
        By name, sorted; without defective patches, traces, previews and unrolled surfaces.

    Raises
    ------
    CollectionError
        If there is none.

    Warns
    -----
    TracerWarning
        For each patch that cannot be read; it is left out.
    """
    from tracer import tifxyz
    from tracer.collection import PatchCollection

    collection = PatchCollection.open(paths)
    found: dict[str, Surface] = {}
    for name in collection.names():
        try:
            meta = tifxyz.read_meta(collection.patch_path(name))
            tags = meta.get("tags")
            if isinstance(tags, Mapping) and "defective" in tags:
                continue
            if name.startswith(_PREVIEW) or meta.get("source") in RESULTS:
                continue
            surface = collection.load(name, channels=())
        except (TracerError, OSError) as error:
            warnings.warn(f"{error}; left out", TracerWarning, stacklevel=2)
            continue
        z = surface.points_xyz[surface.valid][:, 2]
        between = len(z) > 0 and z.max() >= heights[0] and z.min() <= heights[1]
        if between and surface.valid_quads.any():
            found[name] = surface
    if not found:
        where = " at these heights" if np.isfinite(heights).any() else ""
        raise CollectionError(f"{paths}: no usable patch{where}; grow some with 'tracer expand'")
    return found


def is_approved(surface: Surface) -> bool:
    """Return whether a person approved a patch.

    Parameters
    ----------
    surface : Surface
        A patch with its metadata.

    Returns
    -------
    bool
        True where it has the tag.
    """
    tags = surface.meta.get("tags")
    return isinstance(tags, Mapping) and "approved" in tags


def find_suspects_files(paths: Path) -> list[Path]:
    """Return the reports of `tracer unroll` and `tracer suspects` on a collection.

    Parameters
    ----------
    paths : Path
        The collection.

    Returns
    -------
    list of Path
        ``suspects.json`` in the collection, beside it, or in a report beside it; sorted.
    """
    folder = paths.absolute()
    patterns = ("suspects.json", "*/suspects.json", "*/report/suspects.json")
    beside = {path for pattern in patterns for path in folder.parent.glob(pattern)}
    own = folder / "suspects.json"
    return sorted(beside | ({own} if own.exists() else set()))


def read_suspects(files: Iterable[Path], names: Iterable[str]) -> Suspicions:
    """Return what reports say about some patches.

    Parameters
    ----------
    files : iterable of Path
        Each a ``suspects.json``.
    names : iterable of str
        Patches of the collection; others are passed over.

    Returns
    -------
    Suspicions
        Cells of jumps and tails; patches of which a part lies on another sheet.

    Raises
    ------
    FormatError
        If a file is not a report.
    """
    known = frozenset(names)
    entries: list[Mapping[str, Any]] = []
    for path in files:
        try:
            listed = json.loads(path.read_text(encoding="utf-8"))["suspects"]
            entries += [
                {
                    "kind": str(entry["kind"]),
                    "patch": str(entry["patch"]),
                    "cells": [(int(row), int(col)) for row, col in entry["cells"]],
                }
                for entry in listed
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(
                f"{path}: not a report of suspects ({error!r}); make it again with "
                "'tracer suspects'"
            ) from error
    return _suspicions(entries, known, tuple(str(path) for path in files))


def check_windings(
    paths: Path, surfaces: Mapping[str, Surface], memory_gb: float
) -> tuple[Suspicions, "FlatPatches | None"]:
    """Return where patches jump, and their layout, by the winding of all against one another.

    Parameters
    ----------
    paths : Path
        The collection.
    surfaces : mapping of str to Surface
        Its patches that count, by name.
    memory_gb : float
        Beyond it the layout is solved in slabs along z.

    Returns
    -------
    suspicions : Suspicions
        Jumps and tails.
    layout : FlatPatches or None
        None where they cannot be laid out.

    Warns
    -----
    TracerWarning
        If the patches cannot be laid out; nothing is suspected then.
    """
    from tracer.unroll.flat_patches import lay_out_patches
    from tracer.unroll.params import UnrollParams

    params = UnrollParams(memory_gb=memory_gb)
    try:
        layout, found = lay_out_patches(paths, surfaces, params)
    except TracerError as error:
        warnings.warn(
            f"windings cannot be checked ({error}); only local contradictions stop the trace",
            TracerWarning,
            stacklevel=2,
        )
        return Suspicions(), None
    entries = [{"kind": s.kind, "patch": s.patch, "cells": s.cells} for s in found]
    return _suspicions(entries, frozenset(surfaces), ("winding check",)), layout


def _suspicions(
    entries: Sequence[Mapping[str, Any]], known: frozenset[str], sources: tuple[str, ...]
) -> Suspicions:
    cells: dict[str, list[tuple[int, int]]] = {}
    excluded = set()
    for entry in entries:
        if entry["patch"] not in known:
            continue
        if entry["kind"] in ("jump", "tail"):
            cells.setdefault(entry["patch"], []).extend(entry["cells"])
        elif entry["kind"] == "minority":
            excluded.add(entry["patch"])
    return Suspicions(
        cells={name: sorted(set(found)) for name, found in sorted(cells.items())},
        excluded=frozenset(excluded),
        sources=sources,
    )


def cut_patches(
    surfaces: Mapping[str, Surface],
    suspicions: Suspicions,
    *,
    keep: str = "",
    layout: "FlatPatches | None" = None,
) -> TracePatches:
    """Return patches without the cells under suspicion; what falls apart becomes several.

    Parameters
    ----------
    surfaces : mapping of str to Surface
        The patches.
    suspicions : Suspicions
        What to leave out.
    keep : str
        A patch that is not left out as a whole.
    layout : FlatPatches, optional
        All patches laid out flat.

    Returns
    -------
    TracePatches
        In the order of names. Approved patches are neither cut nor left out: a person knows better.
    """
    names: list[str] = []
    pieces: list[Surface] = []
    approved = frozenset(name for name, surface in surfaces.items() if is_approved(surface))
    for name, surface in surfaces.items():
        if name in suspicions.excluded - approved and name != keep:
            continue
        cut = suspicions.cells.get(name) if name not in approved else None
        parts = [surface] if not cut else _pieces(surface, cut)
        names += [name] * len(parts)
        pieces += parts
    return TracePatches(
        names=tuple(names),
        surfaces=tuple(pieces),
        approved=approved,
        suspicions=suspicions,
        layout=layout,
    )


def _pieces(surface: Surface, cells: Sequence[tuple[int, int]]) -> list[Surface]:
    """Return the connected parts of a patch without some vertices."""
    from scipy import ndimage

    valid = surface.valid.copy()
    rows, cols = np.array(cells, dtype=np.int64).T
    inside = (rows >= 0) & (cols >= 0) & (rows < valid.shape[0]) & (cols < valid.shape[1])
    valid[rows[inside], cols[inside]] = False
    quads = valid[:-1, :-1] & valid[:-1, 1:] & valid[1:, :-1] & valid[1:, 1:]
    labels, n = ndimage.label(quads)
    parts = []
    for label in range(1, n + 1):
        mine: NDArray[np.bool_] = labels == label
        if mine.sum() < _FEWEST_QUADS:
            continue
        corners = np.zeros(valid.shape, dtype=bool)
        for d_row in (0, 1):
            for d_col in (0, 1):
                corners[d_row : d_row + mine.shape[0], d_col : d_col + mine.shape[1]] |= mine
        parts.append(dataclasses.replace(surface, valid=corners))
    return parts
