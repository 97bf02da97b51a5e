"""How good a prediction is against labels: overlap, surface, instances and topology.

Foreground is connected through faces, edges and corners (26 neighbours), background through faces
only (6 neighbours). Voxels whose label is the ignore label are background in both masks.

``surface_dice``
    Boundary voxels are foreground voxels with a background voxel among their 6 neighbours (beyond
    the volume counts as foreground, so that cutting a cube out of a scroll makes no boundary). The
    score is the fraction of both masks' boundary voxels within ``tolerance`` voxels (Euclidean,
    between voxel centres) of the other mask's boundary.
``voi_score``
    1 / (1 + 0.3 (split + merge)). Split is H(prediction | label) and merge H(label | prediction) in
    bits, over the connected components of both masks on the union of their foregrounds, where the
    background counts as one more component.
``topology_score``
    Mean of an F1 = 2 m / (features of prediction + features of label) per dimension, with weights
    0.34, 0.33 and 0.33, over the dimensions in which either mask has a feature. Features are
    components, tunnels (holes in a sheet, handles between sheets) and cavities, and m is how many
    of them both masks have in the same place: :mod:`tracer.predict.topology`.
``combined``
    0.30 topology + 0.35 surface Dice + 0.35 VOI.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import TracerWarning, VolumeError
from tracer.predict.topology import label_components, match_features

VOI_ALPHA = 0.3
TOPOLOGY_WEIGHTS = (0.34, 0.33, 0.33)
COMBINED_WEIGHTS = (0.30, 0.35, 0.35)

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionScore:
    """Scores of one prediction, all 0 to 1 unless said otherwise.

    Attributes
    ----------
    dice : float
        Overlap of the foregrounds.
    surface_dice : float
        Share of the boundaries that agree within the tolerance.
    voi_score : float
        Agreement of the connected components; 1 is perfect.
    voi_split, voi_merge : float
        Its two terms in bits; 0 is perfect. Large merge: the prediction joins sheets.
    topology_score : float
        Agreement of components, tunnels and cavities.
    betti_prediction, betti_label, betti_matched : tuple of int
        Components, tunnels and cavities of each mask, and how many of them match.
    combined : float
        Weighted mean of topology, surface Dice and VOI score.
    """

    dice: float
    surface_dice: float
    voi_score: float
    voi_split: float
    voi_merge: float
    topology_score: float
    betti_prediction: tuple[int, int, int]
    betti_label: tuple[int, int, int]
    betti_matched: tuple[int, int, int]
    combined: float

    def summary(self) -> str:
        """Return the scores in one line.

        Returns
        -------
        str
            For people.
        """
        return (
            f"combined {self.combined:.3f}  (topology {self.topology_score:.3f}, "
            f"surface Dice {self.surface_dice:.3f}, VOI {self.voi_score:.3f})  "
            f"Dice {self.dice:.3f}, split {self.voi_split:.2f} and merge {self.voi_merge:.2f} bits"
        )


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 1.0


def _boundary(mask: Mask) -> Mask:
    import scipy.ndimage as ndi

    inner: Mask = ndi.binary_erosion(mask, ndi.generate_binary_structure(3, 1), border_value=1)
    return mask & ~inner


def surface_dice(prediction: Mask, label: Mask, tolerance: float) -> float:
    """Return the share of the boundaries of two masks that lie close to each other.

    Parameters
    ----------
    prediction, label : ndarray of bool, shape (z, y, x)
        Masks.
    tolerance : float
        Distance in voxels that still agrees.

    Returns
    -------
    float
        1 where neither mask has a boundary.
    """
    import scipy.ndimage as ndi

    boundaries = [_boundary(prediction), _boundary(label)]
    sizes = [int(np.count_nonzero(boundary)) for boundary in boundaries]
    close = 0
    for this, other in ((0, 1), (1, 0)):
        if sizes[this] and sizes[other]:
            distance = ndi.distance_transform_edt(~boundaries[other])
            close += int(np.count_nonzero(distance[boundaries[this]] <= tolerance))
    return _ratio(close, sum(sizes))


def variation_of_information(
    prediction: NDArray[np.int32], label: NDArray[np.int32]
) -> tuple[float, float]:
    """Return how much the components of two masks split and merge each other.

    Parameters
    ----------
    prediction, label : ndarray of int32, same shape
        Component number per voxel, 0 for background.

    Returns
    -------
    tuple of float
        Split = H(prediction | label) and merge = H(label | prediction), in bits.
    """
    union = (prediction > 0) | (label > 0)
    total = int(np.count_nonzero(union))
    if total == 0:
        return 0.0, 0.0
    a, b = prediction[union].astype(np.int64), label[union].astype(np.int64)
    _, joint = np.unique(a * (int(b.max()) + 1) + b, return_counts=True)
    joint_entropy = _entropy(joint, total)
    return (
        max(0.0, joint_entropy - _entropy(np.bincount(b), total)),
        max(0.0, joint_entropy - _entropy(np.bincount(a), total)),
    )


def _entropy(counts: NDArray[np.int64], total: int) -> float:
    share = counts[counts > 0] / total
    return float(-(share * np.log2(share)).sum())


def score_masks(
    prediction: NDArray[Any],
    label: NDArray[Any],
    *,
    threshold: float = 127.5,
    ignore_label: int | None = None,
    tolerance: float = 2.0,
) -> PredictionScore:
    """Return the scores of a prediction against a label.

    Parameters
    ----------
    prediction : ndarray, shape (z, y, x)
        Foreground where at least `threshold`.
    label : ndarray, same shape
        Foreground where neither 0 nor `ignore_label`.
    threshold : float
        Least value of the prediction's foreground.
    ignore_label : int or None
        Label of voxels that nobody knows; they count as background in both. The surface
        detection benchmark uses 2.
    tolerance : float
        Of the surface Dice, in voxels.

    Returns
    -------
    PredictionScore
        All scores.

    Raises
    ------
    VolumeError
        If the shapes differ.
    """
    if prediction.shape != label.shape:
        raise VolumeError(
            f"prediction {prediction.shape} and label {label.shape} differ in shape; "
            "score them on the same box"
        )
    if ignore_label is None and np.array_equal(np.unique(label), (0, 1, 2)):
        warnings.warn(
            "the label holds the values 0, 1 and 2, and 2 counts as sheet; "
            "if it means unknown, give ignore_label 2",
            TracerWarning,
            stacklevel=2,
        )
    known = np.ones(label.shape, np.bool_) if ignore_label is None else label != ignore_label
    a = np.asarray(prediction >= threshold, np.bool_) & known
    b = np.asarray(label != 0, np.bool_) & known
    dice = _ratio(2 * int((a & b).sum()), int(a.sum()) + int(b.sum()))
    surface = surface_dice(a, b, tolerance)
    split, merge = variation_of_information(label_components(a)[0], label_components(b)[0])
    voi = 1.0 / (1.0 + VOI_ALPHA * (split + merge))
    of_prediction, of_label, matched = match_features(a, b)
    topology = _topology_score(of_prediction, of_label, matched)
    weights = COMBINED_WEIGHTS
    return PredictionScore(
        dice=dice,
        surface_dice=surface,
        voi_score=voi,
        voi_split=split,
        voi_merge=merge,
        topology_score=topology,
        betti_prediction=of_prediction,
        betti_label=of_label,
        betti_matched=matched,
        combined=weights[0] * topology + weights[1] * surface + weights[2] * voi,
    )


def _topology_score(
    prediction: tuple[int, int, int], label: tuple[int, int, int], matched: tuple[int, int, int]
) -> float:
    total = score = 0.0
    for weight, p, q, m in zip(TOPOLOGY_WEIGHTS, prediction, label, matched, strict=True):
        if p + q:
            total += weight
            score += weight * 2.0 * m / (p + q)
    return score / total if total else 1.0
