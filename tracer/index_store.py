"""The spatial index of a collection on disk: immutable segments that are mapped, never trusted.

Conventions
-----------
A store is a directory with ``manifest.json`` and segment files. A segment is written once, under a
name of its own, and mapped read-only by any number of processes; only the manifest changes, by
atomic replacement under a lock. Updating appends a segment with the new patches and merges segments
of similar size (a log-structured merge tree), so that n patches cost n log n whatever the order in
which they appear. A patch whose fingerprint has changed is dead in its old segment.

The first store is ``<paths>/.tracer-index``. Where it cannot be written, or nobody has write
permission for the collection (which would not stop root), there is one per collection in the
user's cache folder, and where that fails too the index stays in memory.

Laws: a stale, truncated or foreign file is never used (size, version and fingerprints are compared,
and the checksum where the file is not the one that was written); deleting a store costs time only.
"""

import contextlib
import hashlib
import json
import os
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer import tifxyz
from tracer.atomic import sweep_stale, write_json
from tracer.errors import OutputError, TracerError, TracerWarning
from tracer.index_file import FORMAT, SUFFIX, read_segment, write_segment
from tracer.index_segment import PatchGrid, Segment, build_segment, with_grids
from tracer.spatial_index import SpatialIndex

DIRECTORY = ".tracer-index"
MANIFEST = "manifest.json"
FLUSH_FROM_PATCHES = 32  # fewer new patches are read again by each process, in milliseconds
MERGE_UP_TO_VERTICES = 1 << 24  # bounds the memory of an update to about 1.5 GB
LOCK_TIMEOUT_S = 900.0

Part = tuple[Segment, NDArray[np.bool_]]


def open_index(
    paths: Path, fingerprints: Mapping[str, str], previous: SpatialIndex | None = None
) -> SpatialIndex:
    """Return the index of a collection, from its stores as far as they are right.

    Parameters
    ----------
    paths : Path
        The collection.
    fingerprints : mapping of str to str
        Name and fingerprint of every patch that shall be in the index.
    previous : SpatialIndex, optional
        An earlier index of the same collection, whose segments are used again.

    Returns
    -------
    SpatialIndex
        Of exactly these patches, as they are now.

    Warns
    -----
    TracerWarning
        If patches cannot be read; they are left out.
    """
    stores = _stores(paths)
    if previous is None:
        stored = [segment for store in stores for segment in read_store(store)]
    else:
        stored = [segment for segment, _ in previous.segments]
    parts, missing = _living(stored, fingerprints)
    in_memory = sum(int(alive.sum()) for segment, alive in parts if not segment.file)
    if len(missing) + in_memory >= FLUSH_FROM_PATCHES:
        for store in stores if _may_write(paths) else stores[1:]:
            try:
                stored = _update(store, paths, fingerprints, parts)
            except (OSError, OutputError):
                continue  # read-only or full: the next store, or memory
            parts, missing = _living(stored, fingerprints)
            break
    grids, problems = _read_grids(paths, {name: fingerprints[name] for name in missing})
    segments, alive = with_grids(parts, grids, problems)
    _warn_of_problems(paths, segments, alive)
    return SpatialIndex(segments, alive)


def _stores(paths: Path) -> list[Path]:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    digest = hashlib.blake2b(str(paths.resolve()).encode(), digest_size=12).hexdigest()
    return [paths / DIRECTORY, base / "scroll-tracer" / "index" / digest]


def _may_write(paths: Path) -> bool:
    """Return whether the collection is meant to be written; a query must not leave files if not."""
    return bool(paths.stat().st_mode & 0o222)


def _living(
    stored: Iterable[Segment], fingerprints: Mapping[str, str]
) -> tuple[list[Part], list[str]]:
    """Return the segments with their living patches, and the patches that none of them has."""
    missing = dict.fromkeys(fingerprints)
    parts: list[Part] = []
    for segment in stored:
        alive = np.zeros(len(segment.names), dtype=bool)
        for i, (name, known) in enumerate(zip(segment.names, segment.fingerprints, strict=True)):
            if name in missing and fingerprints[name] == known:
                alive[i] = True
                del missing[name]
        if alive.any():
            parts.append((segment, alive))
    return parts, list(missing)


def _read_grids(
    paths: Path, fingerprints: Mapping[str, str]
) -> tuple[list[PatchGrid], dict[str, str]]:
    """Return the grids of patches, empty ones for those that cannot be read, and why."""
    problems: dict[str, str] = {}
    grids = []
    for name, fingerprint in sorted(fingerprints.items()):
        try:
            points = read_patch_points(paths / name)
        except TracerError as error:
            problems[name] = str(error)
            points = np.empty((0, 1, 3), dtype=np.float32)
        grids.append(PatchGrid(name=name, fingerprint=fingerprint, points_xyz=points))
    return grids, problems


def read_patch_points(directory: Path) -> NDArray[np.float32]:
    """Return the vertex grid of a patch with its mask applied.

    Parameters
    ----------
    directory : Path
        Surface directory.

    Returns
    -------
    ndarray of float32, shape (rows, cols, 3)
        NaN where invalid or masked out.

    Raises
    ------
    FormatError
        If a file is missing, truncated or foreign.
    """
    points = tifxyz.read_points(directory)
    with np.errstate(invalid="ignore"):
        valid = (points[..., 2] > 0) & np.isfinite(points).all(axis=-1)
    mask = tifxyz.read_mask(directory, (points.shape[0], points.shape[1]))
    if mask is not None:
        valid &= mask
    points[~valid] = np.nan
    return points


def _warn_of_problems(
    paths: Path, segments: Sequence[Segment], alive: Sequence[NDArray[np.bool_]]
) -> None:
    problems = {
        name: segment.problems[name]
        for segment, flags in zip(segments, alive, strict=True)
        for name, lives in zip(segment.names, flags, strict=True)
        if lives and name in segment.problems
    }
    n_rejected = sum(segment.n_rejected for segment in segments)
    if n_rejected:
        warnings.warn(
            f"{paths}: {n_rejected} quads have absurd coordinates and are left out of the index",
            TracerWarning,
            stacklevel=4,
        )
    if problems:
        first = min(problems)
        warnings.warn(
            f"{paths}: {len(problems)} patches cannot be read and are left out of the index; "
            f"the first: {problems[first]}",
            TracerWarning,
            stacklevel=4,
        )


def _update(
    store: Path, paths: Path, fingerprints: Mapping[str, str], known: Sequence[Part]
) -> list[Segment]:
    """Bring a store up to date and return its segments, after those of other stores.

    Grids in `known` segments in memory are written without being read again.
    """
    from filelock import FileLock, Timeout

    store.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(store / "lock", timeout=LOCK_TIMEOUT_S):
            mine = read_store(store)
            elsewhere = [s for s, _ in known if s.file and Path(s.file).parent != store]
            in_memory = [s for s, _ in known if not s.file]
            parts, missing = _living([*elsewhere, *mine], fingerprints)
            if missing:
                own = [part for part in parts if Path(part[0].file).parent == store]
                _sweep(store, mine)  # what a killed writer left
                mine = _merge(store, paths, own, missing, fingerprints, in_memory)
                _write_manifest(store, mine)
                _sweep(store, mine)
            return [*elsewhere, *mine]
    except Timeout as error:
        raise OutputError(f"{store}: another process holds the lock; try again later") from error


def _merge(
    store: Path,
    paths: Path,
    own: Sequence[Part],
    missing: Sequence[str],
    fingerprints: Mapping[str, str],
    in_memory: Sequence[Segment],
) -> list[Segment]:
    """Write the missing patches, merged with segments that are not much larger."""
    cached = {
        grid.name: grid
        for segment, alive in _living(in_memory, {n: fingerprints[n] for n in missing})[0]
        for grid, lives in zip(segment.grids(), alive, strict=True)
        if lives and grid.name not in segment.problems
    }
    written: list[Segment] = []
    batch: list[PatchGrid] = []
    problems: dict[str, str] = {}
    size = 0

    def flush() -> None:
        nonlocal batch, problems, size
        if batch:
            written.append(write_segment(store, build_segment(batch, problems)))
        batch, problems, size = [], {}, 0

    for name in sorted(missing):
        grids, reasons = (
            ([cached[name]], {})
            if name in cached
            else _read_grids(paths, {name: fingerprints[name]})
        )
        batch.extend(grids)
        problems.update(reasons)
        size += grids[0].points_xyz.size // 3
        if size >= MERGE_UP_TO_VERTICES:
            flush()
    kept = []
    for segment, alive in sorted(own, key=lambda part: len(part[0].view.vertices)):
        n_vertices = len(segment.view.vertices)
        similar = n_vertices <= 2 * size or 2 * int(alive.sum()) < len(alive)
        if not similar or size + n_vertices > MERGE_UP_TO_VERTICES:
            kept.append(segment)
            continue
        batch.extend(g for g, lives in zip(segment.grids(), alive, strict=True) if lives)
        problems.update(segment.problems)
        size += n_vertices
    flush()
    return [*kept, *written]


def _sweep(store: Path, used: Sequence[Segment]) -> None:
    """Remove unused segments and what killed writers left; called under the lock."""
    files = {Path(segment.file).name for segment in used}
    for path in sorted(store.glob(f"*{SUFFIX}")):
        if path.name not in files:
            path.unlink(missing_ok=True)
    sweep_stale(store, older_than_s=0.0)


def _write_manifest(store: Path, segments: Sequence[Segment]) -> None:
    entries = []
    for segment in segments:
        path = Path(segment.file)
        status = path.stat()
        entries.append(
            {
                "file": path.name,
                "size": status.st_size,
                "mtime_ns": status.st_mtime_ns,
                "crc32": _checksum(path),
            }
        )
    write_json(store / MANIFEST, {"format": FORMAT, "segments": entries})


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            checksum = zlib.crc32(block, checksum)
    return checksum


def read_store(store: Path) -> list[Segment]:
    """Return the usable segments of a store, mapped.

    Parameters
    ----------
    store : Path
        Directory of the store; need not exist.

    Returns
    -------
    list of Segment
        Without those that are missing, damaged, or written by another version.
    """
    for attempt in range(3):
        segments, n_missing = [], 0
        for entry in _read_manifest(store):
            path = store / str(entry.get("file"))
            try:
                status = path.stat()
            except OSError:
                n_missing += 1
                continue
            if status.st_size != entry.get("size") or (
                status.st_mtime_ns != entry.get("mtime_ns")
                and _checksum(path) != entry.get("crc32")
            ):
                continue
            segment = read_segment(path)
            if segment is not None:
                segments.append(segment)
        # a file that vanished was merged between our reading of the manifest and of the file
        if n_missing == 0 or attempt == 2:
            break
    return segments


def _read_manifest(store: Path) -> Iterator[Mapping[str, Any]]:
    with contextlib.suppress(OSError, ValueError):
        manifest = json.loads((store / MANIFEST).read_bytes())
        if isinstance(manifest, dict) and manifest.get("format") == FORMAT:
            entries = manifest.get("segments")
            if isinstance(entries, list):
                yield from (entry for entry in entries if isinstance(entry, dict))
