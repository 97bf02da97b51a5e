"""Volume packages: ``<name>.volpkg/volumes/<volume>/``, looked up by name or uuid."""

from pathlib import Path

from tracer.errors import VolumeError
from tracer.storage import LocalStorage, is_url
from tracer.zarr_metadata import read_json

VOLUMES = "volumes"
CONFIG = "config.json"
SUFFIX = ".volpkg"


def is_volpkg(path: str | Path) -> bool:
    """Return whether `path` is a volume package.

    Parameters
    ----------
    path : str or Path
        What the user gave.

    Returns
    -------
    bool
        True for ``*.volpkg`` and for folders with ``config.json`` and ``volumes/``.
    """
    text = str(path)
    if is_url(text):
        return text.rstrip("/").endswith(SUFFIX)
    folder = Path(text)
    if folder.suffix == SUFFIX:
        return True
    return (folder / CONFIG).is_file() and (folder / VOLUMES).is_dir()


def list_volumes(package: Path) -> dict[str, tuple[str, ...]]:
    """Return the volumes of a package and what each may be called.

    Parameters
    ----------
    package : Path
        The ``.volpkg`` folder.

    Returns
    -------
    dict
        Folder name below ``volumes/``, sorted, to its other names: without ``.zarr``, and ``name``
        and ``uuid`` of its ``meta.json``.

    Raises
    ------
    VolumeError
        If there is no such package, or it has no ``volumes/``.
    """
    folder = package / VOLUMES
    if not package.is_dir():
        raise VolumeError(f"{package}: no such volume package; check the path")
    if not folder.is_dir():
        raise VolumeError(f"{package}: has no '{VOLUMES}' folder; is it a volume package?")
    found: dict[str, tuple[str, ...]] = {}
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir() or entry.name.startswith("."):
            continue
        meta = read_json(LocalStorage(entry), "meta.json") or {}
        names = {entry.name.removesuffix(".zarr"), str(meta.get("name")), str(meta.get("uuid"))}
        found[entry.name] = tuple(sorted(names - {"None", entry.name}))
    return found


def find_volume(path: str | Path, name: str | None) -> str:
    """Return the path of a volume, looked up in a package where `path` is one.

    Parameters
    ----------
    path : str or Path
        A volume, or a volume package.
    name : str or None
        Name or uuid of a package's volume; None picks the only one.

    Returns
    -------
    str
        Path or URL of the volume.

    Raises
    ------
    VolumeError
        If the package has no such volume, several of that name, or several to choose from.
    """
    if not is_volpkg(path):
        if name is not None:
            raise VolumeError(
                f"{path}: not a volume package, so volume '{name}' cannot be looked up in it; "
                f"give the {SUFFIX} folder or leave the name out"
            )
        return str(path)
    if is_url(str(path)):
        raise VolumeError(
            f"{path}: a remote volume package cannot be listed; give the URL of the volume itself, "
            f"{str(path).rstrip('/')}/{VOLUMES}/…"
        )
    package = Path(path)
    volumes = list_volumes(package)
    if not volumes:
        raise VolumeError(f"{package / VOLUMES}: holds no volume; add one with `tracer prepare`")
    shown = ", ".join(volumes)
    if name is None:
        if len(volumes) > 1:
            raise VolumeError(f"{package}: holds several volumes; choose one by name: {shown}")
        return str(package / VOLUMES / next(iter(volumes)))
    matches = [folder for folder, names in volumes.items() if name in (folder, *names)]
    if not matches:
        raise VolumeError(f"{package}: has no volume '{name}'; it has {shown}")
    if len(matches) > 1:
        raise VolumeError(f"{package}: '{name}' fits {' and '.join(matches)}; use the folder name")
    return str(package / VOLUMES / matches[0])
