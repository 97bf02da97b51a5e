"""What a surface says about how it was made: command, version, parameters, seed, volume, time."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tracer import __version__
from tracer.params import Params
from tracer.tifxyz import plain_json


class _Volume(Protocol):
    """The part of a volume that provenance needs."""

    @property
    def path(self) -> str: ...
    @property
    def uuid(self) -> str: ...
    @property
    def shape_zyx(self) -> tuple[int, int, int]: ...
    @property
    def voxel_size_um(self) -> float: ...


def provenance(
    source: str,
    params: Params | Mapping[str, Any],
    *,
    rng_seed: int | None = None,
    volume: _Volume | None = None,
    elapsed_time_s: float | None = None,
    seed_xyz: Sequence[float] | None = None,
    mode: str | None = None,
    max_gen: int | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the metadata that every surface we write carries.

    Parameters
    ----------
    source : str
        The command, e.g. ``tracer seed``.
    params : Params or mapping
        The full effective parameters.
    rng_seed : int, optional
        Seed of the random numbers; taken from `params` where omitted.
    volume : Volume, optional
        The volume that the surface lies in.
    elapsed_time_s : float, optional
        Seconds of work. It differs between runs, so leave it out where bytes are compared.
    seed_xyz : sequence of float, optional
        The point that a patch was grown from.
    mode : str, optional
        For patches: ``explicit_seed``, ``random_seed``, ``expansion`` or ``resume``. The parameters
        then go under the keys that VC3D shows, ``vc_gsfs_mode`` and ``vc_gsfs_params``.
    max_gen : int, optional
        Number of generations grown.
    extra : mapping, optional
        Further keys, e.g. costs and rejection counts.

    Returns
    -------
    dict
        JSON-serialisable, for ``Surface.meta``.
    """
    effective = params.effective() if isinstance(params, Params) else dict(params)
    meta: dict[str, Any] = {
        "source": source,
        "tracer_version": __version__,
        "rng_seed": effective.get("rng_seed") if rng_seed is None else rng_seed,
    }
    if mode is None:
        meta["params"] = effective
    else:
        meta.update(vc_gsfs_mode=mode, vc_gsfs_params=effective)
    if volume is not None:
        meta["target_volume"] = {
            "uuid": volume.uuid,
            "path": str(volume.path),
            "shape": list(volume.shape_zyx),
            "voxelsize": volume.voxel_size_um,
        }
    optional = {
        "elapsed_time_s": elapsed_time_s,
        "seed": None if seed_xyz is None else [float(v) for v in seed_xyz],
        "max_gen": max_gen,
    }
    meta.update({key: value for key, value in optional.items() if value is not None})
    meta.update(extra or {})
    plain: dict[str, Any] = plain_json(meta)
    return plain
