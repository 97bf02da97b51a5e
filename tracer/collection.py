"""A ``paths/`` directory of patches, shared by any number of processes.

Conventions
-----------
A patch is a sub-directory with ``meta.json``; names that begin with a dot and directories without
``meta.json`` do not exist. Every change is one atomic rename. Files that are read, changed and
written (overlaps, tags) change under the collection's lock file ``.tracer-lock``, which disappears
with the process that holds it, whatever happens to that.

Overlap is symmetric: it is recorded with both patches, and read from either.
"""

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tracer import tifxyz
from tracer.atomic import write_json
from tracer.errors import CollectionError, OutputError, TracerWarning
from tracer.surface import Surface

if TYPE_CHECKING:
    from tracer.spatial_index import SpatialIndex

LOCK_NAME = ".tracer-lock"
OVERLAPS_NAME = "overlapping.json"
OLD_OVERLAPS_NAME = "overlapping"
TAGS = ("approved", "defective", "reviewed", "revisit")
_LOCK_TIMEOUT_S = 300.0  # a change takes milliseconds per file
_GEOMETRY = tuple(f"{name}.tif" for name in (*tifxyz.COORDINATES, "mask"))


class PatchCollection:
    """The patches below one directory; opening it reads nothing.

    Parameters
    ----------
    path : Path
        Existing directory; use :meth:`open`.

    Attributes
    ----------
    path : Path
        The directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._index: SpatialIndex | None = None
        self._indexed: dict[str, str] = {}

    @classmethod
    def open(cls, paths_dir: str | Path, *, create: bool = False) -> Self:
        """Return the collection in a directory.

        Parameters
        ----------
        paths_dir : str or Path
            Directory of surfaces, e.g. ``scroll.volpkg/paths``.
        create : bool
            Make the directory where there is none.

        Returns
        -------
        PatchCollection
            At once; neither patches nor index are read before they are needed.

        Raises
        ------
        CollectionError
            If there is no such directory, or it is itself a surface.
        OutputError
            If it cannot be created.
        """
        path = Path(paths_dir).absolute()
        if create:
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"{path}: cannot create ({error.strerror})") from error
        if not path.is_dir():
            raise CollectionError(f"{path}: no such directory of patches; check the path")
        if (path / tifxyz.META_NAME).exists():
            raise CollectionError(f"{path}: is a surface, not a directory of them; give its parent")
        return cls(path)

    def names(self) -> list[str]:
        """Return the names of all finished patches.

        Returns
        -------
        list of str
            Sorted; as of now.
        """
        return sorted(name for name in self._entries() if self._is_finished(name))

    def _entries(self) -> Iterator[str]:
        with os.scandir(self.path) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.is_dir():
                    yield entry.name

    def _is_finished(self, name: str) -> bool:
        # os.path is five times as fast as pathlib here, and a collection has thousands of patches
        return os.path.exists(f"{self.path}/{name}/{tifxyz.META_NAME}")  # noqa: PTH110

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _is_plain(name) and self._is_finished(name)

    def patch_path(self, name: str) -> Path:
        """Return the directory of a patch.

        Parameters
        ----------
        name : str
            Name of a finished patch.

        Returns
        -------
        Path
            Its surface directory.

        Raises
        ------
        CollectionError
            If there is no finished patch of this name.
        """
        if name not in self:
            raise CollectionError(f"{self.path}: no finished patch '{name}'; see its names")
        return self.path / name

    def name_of(self, segment: str | Path) -> str:
        """Return the name of a patch that is given by name or path.

        Parameters
        ----------
        segment : str or Path
            Name of a finished patch, or its directory.

        Returns
        -------
        str
            Its name.

        Raises
        ------
        CollectionError
            If it does not exist, is unfinished, or lies in another directory.
        """
        if str(segment) in self:
            return str(segment)
        directory = Path(segment).resolve()
        if directory.parent != self.path.resolve():
            raise CollectionError(
                f"{segment}: no finished patch of {self.path}; give a name, or move it there"
            )
        return self.patch_path(directory.name).name

    def load(
        self, name: str, *, apply_mask: bool = True, channels: Iterable[str] | None = None
    ) -> Surface:
        """Return a patch.

        Parameters
        ----------
        name : str
            Name of a finished patch.
        apply_mask : bool
            Make the vertices that its mask masks out invalid.
        channels : iterable of str, optional
            Channels to read; all where omitted.

        Returns
        -------
        Surface
            As :meth:`Surface.load` reads it.
        """
        return Surface.load(self.patch_path(name), apply_mask=apply_mask, channels=channels)

    def add(self, surface: Surface, *, prefix: str = "auto_grown") -> str:
        """Save a surface as a new patch; neither lock nor index are needed.

        Parameters
        ----------
        surface : Surface
            The patch.
        prefix : str
            First part of its name.

        Returns
        -------
        str
            Its name, unique among all processes.
        """
        return surface.save_new(self.path, prefix=prefix).name

    # -- overlaps ---------------------------------------------------------------------------------

    def overlaps(self, name: str) -> list[str]:
        """Return the patches that are recorded as overlapping a patch.

        Parameters
        ----------
        name : str
            Name of a finished patch.

        Returns
        -------
        list of str
            Names, sorted; from ``overlapping.json`` and from the directory ``overlapping/`` of old
            collections. They may name patches that are gone.
        """
        directory = self.patch_path(name)
        found = set(_read_overlaps(directory)[1])
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found.update(p.name for p in (directory / OLD_OVERLAPS_NAME).iterdir())
        return sorted(other for other in found if not other.startswith("."))

    def overlap_graph(self) -> dict[str, list[str]]:
        """Return all recorded overlaps between finished patches.

        Returns
        -------
        dict of str to list of str
            Every patch with its neighbours, sorted; symmetric even where only one direction was
            recorded, e.g. because a process was killed in between.
        """
        names = self.names()
        graph: dict[str, set[str]] = {name: set() for name in names}
        for name in names:
            for other in self.overlaps(name):
                if other in graph and other != name:
                    graph[name].add(other)
                    graph[other].add(name)
        return {name: sorted(others) for name, others in graph.items()}

    def add_overlaps(self, name: str, others: Iterable[str]) -> list[str]:
        """Record that a patch overlaps others, in both directions.

        Parameters
        ----------
        name : str
            Name of a finished patch.
        others : iterable of str
            Names of its neighbours; those that no longer exist are left out.

        Returns
        -------
        list of str
            The neighbours recorded, sorted.

        Raises
        ------
        CollectionError
            If there is no finished patch `name`.
        OutputError
            If the collection cannot be written or its lock is held for minutes.
        """
        return self.connect({name: others})[name]

    def connect(self, neighbours: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
        """Record the overlaps of several patches, in both directions, each file written once.

        Parameters
        ----------
        neighbours : mapping of str to iterable of str
            Finished patches, and the neighbours of each; those that no longer exist are left out.

        Returns
        -------
        dict of str to list of str
            The neighbours recorded for each, sorted.

        Raises
        ------
        CollectionError
            If one of the patches is not finished.
        OutputError
            If the collection cannot be written or its lock is held for minutes.
        """
        wanted = {name: set(others) for name, others in neighbours.items()}
        for name in wanted:
            self.patch_path(name)
        with self._locked():
            existing = {other for other in set().union(*wanted.values()) if other in self}
            known = {name: sorted((found & existing) - {name}) for name, found in wanted.items()}
            both: dict[str, set[str]] = {name: set(others) for name, others in known.items()}
            for name, others in known.items():
                for other in others:
                    both.setdefault(other, set()).add(name)
            # The patches themselves last: without a file of its own a patch is connected again.
            for name in sorted(both, key=lambda name: (name in neighbours, name)):
                _merge_overlaps(self.path / name, both[name])
        return known

    def record_overlaps(self, name: str, *, tolerance: float = 2.0) -> list[str]:
        """Find all overlaps of a patch exactly and record them in both directions.

        Parameters
        ----------
        name : str
            Name of a finished patch.
        tolerance : float
            Largest distance in voxels, inclusive.

        Returns
        -------
        list of str
            Its neighbours, sorted.
        """
        patch = self.load(name, channels=())  # first: the index only warns of one it cannot read
        found = self.index().overlapping(patch, tolerance, exclude=[name])
        return self.add_overlaps(name, found)

    # -- tags -------------------------------------------------------------------------------------

    def tags(self, name: str) -> dict[str, Any]:
        """Return the tags of a patch.

        Parameters
        ----------
        name : str
            Name of a finished patch.

        Returns
        -------
        dict
            Tag to its details; presence is what counts.
        """
        tags = tifxyz.read_meta(self.patch_path(name)).get("tags")
        return dict(tags) if isinstance(tags, Mapping) else {}

    def tagged(self, tag: str) -> list[str]:
        """Return the patches with a tag.

        Parameters
        ----------
        tag : str
            E.g. ``approved``.

        Returns
        -------
        list of str
            Names, sorted.

        Notes
        -----
        Reads the metadata of every patch: about 50 µs each.
        """
        return [name for name in self.names() if tag in self.tags(name)]

    def set_tag(self, name: str, tag: str, details: Mapping[str, Any] | None = None) -> None:
        """Tag a patch.

        Parameters
        ----------
        name : str
            Name of a finished patch.
        tag : str
            One of ``TAGS``.
        details : mapping, optional
            E.g. ``{"user": …, "date": …}``.

        Raises
        ------
        CollectionError
            If the patch or the tag does not exist.
        OutputError
            If the collection cannot be written.
        """
        if tag not in TAGS:
            raise CollectionError(f"unknown tag '{tag}'; choose one of {', '.join(TAGS)}")
        self._change_tags(name, lambda tags: {**tags, tag: dict(details or {})})

    def remove_tag(self, name: str, tag: str) -> bool:
        """Remove a tag from a patch.

        Parameters
        ----------
        name : str
            Name of a finished patch.
        tag : str
            Tag to remove.

        Returns
        -------
        bool
            Whether the patch had it.
        """
        had = tag in self.tags(name)
        if had:
            self._change_tags(name, lambda tags: {k: v for k, v in tags.items() if k != tag})
        return had

    def _change_tags(self, name: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        def retag(meta: dict[str, Any]) -> None:
            tags = meta.get("tags")
            meta["tags"] = change(dict(tags) if isinstance(tags, Mapping) else {})

        self.update_meta(name, retag)

    def update_meta(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the metadata of a patch under the collection's lock.

        Parameters
        ----------
        name : str
            Patch.
        change : callable
            Changes the metadata, given as a dict, in place.

        Raises
        ------
        CollectionError
            If there is no such patch.
        OutputError
            If the metadata cannot be written.
        """
        directory = self.patch_path(name)
        with self._locked():
            meta = tifxyz.read_meta(directory)
            change(meta)
            write_json(directory / tifxyz.META_NAME, tifxyz.plain_json(meta))

    # -- index ------------------------------------------------------------------------------------

    def index(self, *, recheck: bool = True) -> "SpatialIndex":
        """Return the spatial index of all patches as they are now.

        Parameters
        ----------
        recheck : bool
            Look at the files of all patches for changes (10 µs each). Without it only new and
            vanished patches are noticed, not new masks: right for a loop that adds patches.

        Returns
        -------
        SpatialIndex
            Immutable. Built where needed, and cached in the collection or, where that is read-only,
            in the user's cache folder; later calls only add what is new.

        Warns
        -----
        TracerWarning
            If patches cannot be read; they are left out.
        """
        from tracer.index_store import open_index

        current = {}
        for name in self._entries():
            known = None if recheck else self._indexed.get(name)
            fingerprint = known or self._fingerprint(name)
            if fingerprint:
                current[name] = fingerprint
        if self._index is None or current != self._indexed:
            self._index = open_index(self.path, current, self._index)
            self._indexed = current
        return self._index

    def _fingerprint(self, name: str) -> str:
        """Return what changes with the geometry of a patch; empty if it is not finished."""
        if not self._is_finished(name):
            return ""
        parts = []
        for file in _GEOMETRY:
            try:
                status = os.stat(f"{self.path}/{name}/{file}")  # noqa: PTH116 (see _is_finished)
            except OSError:
                parts.append("-")
            else:
                parts.append(f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}")
        return hashlib.blake2b(" ".join(parts).encode(), digest_size=8).hexdigest()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock, Timeout

        lock = self.path / LOCK_NAME
        try:
            with FileLock(lock, timeout=_LOCK_TIMEOUT_S):
                yield
        except Timeout as error:
            raise OutputError(f"{lock}: held by another process for minutes; end that") from error
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot change the collection ({error.strerror or error}); "
                "check permissions"
            ) from error


def locate_patch(segment: str | Path) -> tuple[PatchCollection, str]:
    """Return the collection and the name of a patch that is given by its path.

    Parameters
    ----------
    segment : str or Path
        Surface directory.

    Returns
    -------
    collection : PatchCollection
        Its parent directory.
    name : str
        Its name there.

    Raises
    ------
    SurfaceError
        If it is missing or unfinished.
    """
    directory = Path(segment).absolute()
    tifxyz.read_meta(directory)
    return PatchCollection.open(directory.parent), directory.name


def _is_plain(name: str) -> bool:
    return bool(name) and not name.startswith(".") and "/" not in name


def _read_overlaps(directory: Path) -> tuple[dict[str, Any], list[str]]:
    """Return (whole object, names) of ``overlapping.json``; empty where there is none."""
    path = directory / OVERLAPS_NAME
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}, []
    except ValueError:
        value = None
    names = value.get("overlapping") if isinstance(value, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        warnings.warn(
            f"{path}: damaged, taken as empty; run 'tracer overlap' for this patch to restore it",
            TracerWarning,
            stacklevel=4,
        )
        return {}, []
    return value, names


def _merge_overlaps(directory: Path, names: Iterable[str]) -> None:
    value, present = _read_overlaps(directory)
    merged = sorted({*present, *names})
    if merged != present or not value:
        write_json(directory / OVERLAPS_NAME, {**value, "overlapping": merged})
