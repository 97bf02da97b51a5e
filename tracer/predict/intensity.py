"""Grey values as a network wants them: the normalisation that its plans name.

nnU-Net normalises image by image. Where that needs figures of the image (z-score, rescaling), a
volume that is predicted block by block takes them from the whole volume, or each block would be
normalised differently. They come from cubes spread evenly over the volume (all of it up to 512
voxels per axis) and from voxels that are not 0: zeros are what was masked, and the cubes that
networks are trained on hold few of them.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from tracer.errors import FormatError, NothingFoundError
from tracer.volume import Volume

Kind = Literal["CT", "z-score", "z-score inside", "rescale to 0-1", "divide by 255", "none"]

_SCHEMES: Mapping[str, Kind] = {
    "CTNormalization": "CT",
    "ZScoreNormalization": "z-score",
    "RescaleTo01Normalization": "rescale to 0-1",
    "RGBTo01Normalization": "divide by 255",
    "NoNormalization": "none",
}
_UINT8_FROM_UINT16 = 1.0 / 257.0
_CUBE = 64
_CUBES_PER_AXIS = 8
_LEAST_STD = 1e-8  # nnU-Net's


@dataclass(frozen=True, slots=True, kw_only=True)
class GreyFigures:
    """Figures of a volume's voxels that are not 0.

    Attributes
    ----------
    mean, std, low, high : float
        Of grey values.
    """

    mean: float
    std: float
    low: float
    high: float

    @classmethod
    def measure(cls, volume: Volume, level: int) -> Self:
        """Return the figures of a level of a volume.

        Parameters
        ----------
        volume : Volume
            CT.
        level : int
            Level that is predicted on.

        Returns
        -------
        GreyFigures
            From at most 512 cubes of 64 voxels; the same for the same volume.

        Raises
        ------
        NothingFoundError
            If all samples are 0.
        """
        starts = []
        for extent in volume.level_shape_zyx(level):
            count = min(_CUBES_PER_AXIS, -(-extent // _CUBE))
            last = max(0, extent - _CUBE)
            starts.append(
                [i * _CUBE for i in range(count)]
                if extent <= _CUBE * _CUBES_PER_AXIS
                else [round(last * i / (count - 1)) for i in range(count)]
            )
        count, total, squares = 0, 0.0, 0.0
        low, high = np.inf, -np.inf
        for start in itertools.product(*starts):
            values = volume.read(level, start, [a + _CUBE for a in start]).astype(np.float64)
            values = values[values > 0]
            if values.size:
                count += values.size
                total += float(values.sum())
                squares += float((values * values).sum())
                low, high = min(low, float(values.min())), max(high, float(values.max()))
        if count == 0:
            raise NothingFoundError(
                f"{volume.path}: the sampled voxels are all 0; check that this is the CT"
            )
        mean = total / count
        return cls(
            mean=mean, std=float(np.sqrt(max(0.0, squares / count - mean**2))), low=low, high=high
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """What the plans say about one channel.

    Attributes
    ----------
    kind : str
        Scheme.
    training : mapping
        Figures of the training data's foreground: mean, std, percentile_00_5, percentile_99_5, max.
    """

    kind: Kind
    training: Mapping[str, float]

    @classmethod
    def from_plans(
        cls, scheme: str, inside_only: bool, training: Mapping[str, Any], where: str
    ) -> Self:
        """Return the normalisation that plans name.

        Parameters
        ----------
        scheme : str
            Name of nnU-Net's class.
        inside_only : bool
            Whether voxels that are 0 stay 0.
        training : mapping
            Intensity properties of the channel.
        where : str
            Model, for messages.

        Returns
        -------
        Normalisation
            Of the first channel.

        Raises
        ------
        FormatError
            If the scheme is unknown, or lacks its figures.
        """
        if scheme not in _SCHEMES:
            raise FormatError(
                f"{where}: plans want the normalisation {scheme}, which is none of "
                f"{', '.join(sorted(_SCHEMES))}; predict exported blocks with nnUNetv2_predict"
            )
        kind = _SCHEMES[scheme]
        if kind == "z-score" and inside_only:
            kind = "z-score inside"
        figures = {
            key: float(value) for key, value in training.items() if isinstance(value, int | float)
        }
        missing = {"mean", "std", "percentile_00_5", "percentile_99_5"} - set(figures)
        if kind == "CT" and missing:
            raise FormatError(f"{where}: plans lack {sorted(missing)} of channel 0; export it anew")
        return cls(kind=kind, training=figures)

    @property
    def needs_figures(self) -> bool:
        """Return whether figures of the volume are needed."""
        return self.kind in ("z-score", "z-score inside", "rescale to 0-1")

    def fitted(self, dtype: np.dtype[Any], figures: GreyFigures | None) -> "GreyScale":
        """Return the mapping for a volume.

        Parameters
        ----------
        dtype : dtype
            Type of its voxels. uint16 is brought to 0 to 255 first, unless the network was trained
            on larger values.
        figures : GreyFigures or None
            Needed where `needs_figures` says so; in grey values as stored.

        Returns
        -------
        GreyScale
            Mapping of stored grey values.
        """
        unit = 1.0
        if dtype == np.uint16 and self.training.get("max", 255.0) <= 255.0:
            unit = _UINT8_FROM_UINT16
        low, high, shift, divisor = -np.inf, np.inf, 0.0, 1.0
        if self.kind == "CT":
            low, high = self.training["percentile_00_5"], self.training["percentile_99_5"]
            shift, divisor = self.training["mean"], max(self.training["std"], _LEAST_STD)
        elif self.kind == "divide by 255":
            divisor = 255.0
        elif self.needs_figures:
            assert figures is not None  # the caller asked needs_figures
            if self.kind == "rescale to 0-1":
                shift = unit * figures.low
                divisor = max(unit * (figures.high - figures.low), _LEAST_STD)
            else:
                shift, divisor = unit * figures.mean, max(unit * figures.std, _LEAST_STD)
        return GreyScale(
            unit=unit,
            low=low,
            high=high,
            shift=shift,
            divisor=divisor,
            keep_zero=self.kind == "z-score inside",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GreyScale:
    """A mapping of grey values.

    Attributes
    ----------
    unit : float
        Factor before everything else.
    low, high : float
        Values are cut off here.
    shift, divisor : float
        (value − shift) / divisor is what the network sees; divided as nnU-Net does, to the bit.
    keep_zero : bool
        Whether 0 stays 0.
    """

    unit: float
    low: float
    high: float
    shift: float
    divisor: float
    keep_zero: bool

    def apply(self, grey: NDArray[Any]) -> NDArray[np.float32]:
        """Return normalised grey values.

        Parameters
        ----------
        grey : ndarray
            As stored.

        Returns
        -------
        ndarray of float32, same shape
            As the network wants them.
        """
        out = grey.astype(np.float32)
        if self.unit != 1.0:
            out *= np.float32(self.unit)
        if np.isfinite(self.low):
            np.clip(out, self.low, self.high, out=out)
        out -= np.float32(self.shift)
        out /= np.float32(self.divisor)
        if self.keep_zero:
            out[grey == 0] = 0.0
        return out
