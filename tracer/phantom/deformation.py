"""Stages that carry a phantom's spiral into space; each one is invertible by construction."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError
from tracer.kernels.phantom import CRUSH, N_TERMS, SWIRL, WAVES, Spiral

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waves:
    """A sum of plane sine waves, ``X = u + sum A sin(K . u + PH)``.

    Attributes
    ----------
    wave_vectors : tuple of (x, y, z)
        K, radians per voxel.
    amplitudes : tuple of (x, y, z)
        A, voxels.
    phases : tuple of float
        PH, radians.
    """

    wave_vectors: tuple[Triple, ...]
    amplitudes: tuple[Triple, ...]
    phases: tuple[float, ...]
    kind: ClassVar[int] = WAVES
    name: ClassVar[str] = "waves"

    def __post_init__(self) -> None:
        """Refuse waves that fold space."""
        if not len(self.wave_vectors) == len(self.amplitudes) == len(self.phases):
            raise FormatError(
                f"waves: {len(self.wave_vectors)} K, {len(self.amplitudes)} A and "
                f"{len(self.phases)} PH; give as many of each"
            )
        if self.lipschitz >= 1.0:
            raise FormatError(
                f"waves: sum of |A||K| is {self.lipschitz:.3f}; it must be below 1 to be invertible"
            )

    @property
    def lipschitz(self) -> float:
        """Upper bound of the change of the displacement per voxel.

        Returns
        -------
        float
            Sum of ``|A| |K|``; below one the map is invertible.
        """
        pairs = zip(self.amplitudes, self.wave_vectors, strict=True)
        return sum(math.hypot(*a) * math.hypot(*k) for a, k in pairs)

    def rows(self) -> list[list[float]]:
        """Return the kernel's rows.

        Returns
        -------
        list of list of float
            One row per wave.
        """
        parts = zip(self.wave_vectors, self.amplitudes, self.phases, strict=True)
        return [[*k, *a, phase] for k, a, phase in parts]

    def to_json(self) -> dict[str, Any]:
        """Return the stage as a JSON object.

        Returns
        -------
        dict
            Keys ``kind``, ``K``, ``A``, ``PH``.
        """
        return {
            "kind": self.name,
            "K": [list(k) for k in self.wave_vectors],
            "A": [list(a) for a in self.amplitudes],
            "PH": list(self.phases),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Waves":
        """Return the stage described by a JSON object.

        Parameters
        ----------
        value : mapping
            Keys ``K``, ``A``, ``PH``.

        Returns
        -------
        Waves
            The stage.
        """
        return cls(
            wave_vectors=tuple(_triple(k) for k in value["K"]),
            amplitudes=tuple(_triple(a) for a in value["A"]),
            phases=tuple(float(phase) for phase in value["PH"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Crush:
    """An affine squeeze of the (x, y) plane whose axis turns and whose centre leans with z.

    Attributes
    ----------
    centre : (x, y, z)
        Fixed point at the reference z, voxels.
    scales : (s1, s2)
        Stretch along the axis and across it; both positive.
    angle : float
        Direction of the axis at the reference z, radians.
    twist : float
        Turn of the axis per voxel of z, radians.
    lean : (x, y)
        Shift of the centre per voxel of z.
    """

    centre: Triple
    scales: tuple[float, float]
    angle: float
    twist: float = 0.0
    lean: tuple[float, float] = (0.0, 0.0)
    kind: ClassVar[int] = CRUSH
    name: ClassVar[str] = "crush"

    def __post_init__(self) -> None:
        """Refuse a squeeze to nothing."""
        if min(self.scales) <= 0.0:
            raise FormatError(f"crush: scales are {self.scales}; both must be positive")

    def rows(self) -> list[list[float]]:
        """Return the kernel's rows.

        Returns
        -------
        list of list of float
            A single row.
        """
        return [[*self.centre, *self.scales, self.angle, self.twist, *self.lean]]

    def to_json(self) -> dict[str, Any]:
        """Return the stage as a JSON object.

        Returns
        -------
        dict
            Its attributes and ``kind``.
        """
        return {
            "kind": self.name,
            "centre": list(self.centre),
            "scales": list(self.scales),
            "angle": self.angle,
            "twist": self.twist,
            "lean": list(self.lean),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Crush":
        """Return the stage described by a JSON object.

        Parameters
        ----------
        value : mapping
            The attributes.

        Returns
        -------
        Crush
            The stage.
        """
        first, second = value["scales"]
        lean_x, lean_y = value["lean"]
        return cls(
            centre=_triple(value["centre"]),
            scales=(float(first), float(second)),
            angle=float(value["angle"]),
            twist=float(value["twist"]),
            lean=(float(lean_x), float(lean_y)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Swirl:
    """A local rotation about an axis along z: it folds the sheets that pass through it.

    Attributes
    ----------
    centre : (x, y, z)
        Middle of the fold, voxels.
    radius : float
        Where the rotation has fallen to zero, voxels.
    half_height : float
        Distance along z at which it has fallen to zero.
    angle : float
        Rotation at the middle, radians.
    """

    centre: Triple
    radius: float
    half_height: float
    angle: float
    kind: ClassVar[int] = SWIRL
    name: ClassVar[str] = "swirl"

    def __post_init__(self) -> None:
        """Refuse a fold without extent."""
        if min(self.radius, self.half_height) <= 0.0:
            raise FormatError(
                f"swirl: radius {self.radius} and half_height {self.half_height} must be positive"
            )

    def rows(self) -> list[list[float]]:
        """Return the kernel's rows.

        Returns
        -------
        list of list of float
            A single row.
        """
        return [[*self.centre, self.radius, self.half_height, self.angle]]

    def to_json(self) -> dict[str, Any]:
        """Return the stage as a JSON object.

        Returns
        -------
        dict
            Its attributes and ``kind``.
        """
        return {
            "kind": self.name,
            "centre": list(self.centre),
            "radius": self.radius,
            "half_height": self.half_height,
            "angle": self.angle,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Swirl":
        """Return the stage described by a JSON object.

        Parameters
        ----------
        value : mapping
            The attributes.

        Returns
        -------
        Swirl
            The stage.
        """
        return cls(
            centre=_triple(value["centre"]),
            radius=float(value["radius"]),
            half_height=float(value["half_height"]),
            angle=float(value["angle"]),
        )


Stage = Waves | Crush | Swirl
_KINDS: dict[str, type[Waves] | type[Crush] | type[Swirl]] = {
    cls.name: cls for cls in (Waves, Crush, Swirl)
}


def _triple(values: Iterable[Any]) -> Triple:
    x, y, z = (float(v) for v in values)
    return x, y, z


def stage_from_json(value: Mapping[str, Any]) -> Stage:
    """Return the deformation stage that a JSON object describes.

    Parameters
    ----------
    value : mapping
        ``kind`` and the attributes of that kind.

    Returns
    -------
    Waves or Crush or Swirl
        The stage.

    Raises
    ------
    FormatError
        If the kind is unknown.
    """
    kind = value.get("kind")
    if kind not in _KINDS:
        raise FormatError(f"stages: kind {kind!r} is unknown; use one of {sorted(_KINDS)}")
    return _KINDS[kind].from_json(value)


def build_spiral(centre_xy: tuple[float, float], pitch: float, stages: tuple[Stage, ...]) -> Spiral:
    """Return the numbers that the kernels need.

    Parameters
    ----------
    centre_xy : tuple of float
        Centre of the spiral in material coordinates, voxels.
    pitch : float
        Distance of neighbouring wraps in material coordinates, voxels.
    stages : tuple of Stage
        In the order in which they are applied.

    Returns
    -------
    Spiral
        Arrays of float64 and int64.
    """
    rows: list[list[float]] = []
    first = [0]
    for stage in stages:
        rows += [row + [0.0] * (N_TERMS - len(row)) for row in stage.rows()]
        first.append(len(rows))
    terms: NDArray[np.float64] = np.array(rows, dtype=np.float64).reshape(-1, N_TERMS)
    return Spiral(
        geometry=np.array([*centre_xy, pitch], dtype=np.float64),
        kinds=np.array([stage.kind for stage in stages], dtype=np.int64),
        first=np.array(first, dtype=np.int64),
        terms=terms,
    )
