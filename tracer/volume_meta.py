"""What a volume says about itself: ``meta.json`` and the NGFF ``multiscales``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracer.errors import VolumeError
from tracer.storage import Storage
from tracer.zarr_metadata import parse_json

META = "meta.json"
_EXAMPLE_VOXEL_SIZE_UM = 7.91
_UM_PER_UNIT = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3}


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMeta:
    """What ``meta.json`` says.

    Attributes
    ----------
    voxel_size_um : float
        Edge of a level-0 voxel in µm; NaN if unknown.
    uuid : str
        Name that other files refer to; empty if unknown.
    name : str
        Name for people.
    values : mapping
        The whole file.
    raw : bytes
        The file itself; empty if there is none.
    """

    voxel_size_um: float
    uuid: str
    name: str
    values: Mapping[str, Any]
    raw: bytes


def read_meta(
    storage: Storage, *, required: bool, ngff_voxel_size_um: float | None = None
) -> VolumeMeta:
    """Return what ``meta.json`` says.

    Parameters
    ----------
    storage : Storage
        Where the volume lies.
    required : bool
        Whether the file and a usable voxel size have to be there.
    ngff_voxel_size_um : float, optional
        Voxel size that the NGFF metadata states, suggested where ``meta.json`` has none.

    Returns
    -------
    VolumeMeta
        Its content, checked.

    Raises
    ------
    VolumeError
        If it is damaged, or lacks something that is required.
    """
    where = f"{storage.root}/{META}"
    raw = storage.get(META)
    values = {} if raw is None else parse_json(raw, where)
    example = ngff_voxel_size_um or _EXAMPLE_VOXEL_SIZE_UM
    if raw is None and required:
        raise VolumeError(
            f"{where}: missing; create it with at least "
            f'{{"type": "vol", "uuid": "…", "name": "…", "voxelsize": {example:g}, '
            '"format": "zarr"}, voxelsize being µm per level-0 voxel'
        )
    size = values.get("voxelsize")
    if size is not None and _is_voxel_size(size):
        voxel_size_um = float(size)
    elif required:
        state = "is missing" if size is None else f"is {size!r}"
        raise VolumeError(
            f"{where}: key 'voxelsize' {state}; it must be the µm per level-0 voxel, "
            f'for example "voxelsize": {example:g}'
        )
    else:
        voxel_size_um = math.nan
    if values.get("format", "zarr") != "zarr":
        raise VolumeError(
            f"{where}: format is {values['format']!r}, not 'zarr'; convert the volume with "
            "`tracer prepare`"
        )
    return VolumeMeta(
        voxel_size_um=voxel_size_um,
        uuid=str(values.get("uuid") or ""),
        name=str(values.get("name") or ""),
        values=values,
        raw=raw or b"",
    )


def _is_voxel_size(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0


def listed_levels(attributes: Mapping[str, Any]) -> tuple[list[str] | None, float | None]:
    """Return the levels and the voxel size that NGFF metadata states.

    Parameters
    ----------
    attributes : mapping
        Attributes of the group, NGFF 0.4 or 0.5.

    Returns
    -------
    paths : list of str or None
        Keys of the levels, finest first; None without ``multiscales``.
    voxel_size_um : float or None
        Edge of a level-0 voxel in µm; None without a usable unit.
    """
    ome = attributes.get("ome")
    holder = ome if isinstance(ome, dict) else attributes
    multiscales = holder.get("multiscales")
    try:
        first = multiscales[0]  # type: ignore[index]  # None raises what is caught below
        datasets = first["datasets"]
        paths = [str(dataset["path"]) for dataset in datasets]
    except (TypeError, KeyError, IndexError):
        return None, None
    try:
        unit = _UM_PER_UNIT[first["axes"][-1]["unit"]]
        scale = float(datasets[0]["coordinateTransformations"][0]["scale"][-1]) * unit
    except (TypeError, KeyError, IndexError, ValueError):
        return paths, None
    return paths, scale if _is_voxel_size(scale) else None
