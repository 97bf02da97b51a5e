"""Looks of a phantom: what a scanner and a prediction show at a place of the scroll.

Coordinates on the sheet are the arc length s and z in material coordinates. `slope` is the
length of the winding's gradient in space, so that one over it is the local distance of the wraps.
Between the recto of wrap k (fraction 0) and that of wrap k + 1 (fraction 1) lies the *gap* k: first
the papyrus of wrap k, then air. All randomness depends on the place on the sheet only.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracer.kernels._jit import inline_kernel, kernel
from tracer.kernels.phantom import TWO_PI
from tracer.kernels.phantom_noise import find_event, noise_2d, noise_3d, smooth_step, uniform

_TIGHT = 15.0  # voxels between wraps above which they cannot be merged
_PRESSED = 12.5  # voxels between wraps below which they merge here and there without an event
_TIGHT_RANGE = 3.0  # voxels over which merging sets in below that
_SEAM = 40.0  # voxels from the half plane of angle zero within which merging fades out
_FULLEST = 0.88  # share of a gap that papyrus can fill where wraps do not touch

# Salts, one per kind of randomness.
(
    _TEARS,
    _HOLES,
    _SPECKS,
    _STREAKS,
    _BRIDGES,
    _BLOBS,
    _MERGES,
    _LAYERS,
    _EDGES,
    _FIBRES,
    _CASE,
) = (0x51ED27 * n for n in range(1, 12))


class Recipe(NamedTuple):
    """How a phantom looks: numbers for the kernels.

    Attributes
    ----------
    seed : int
        32-bit seed of all randomness.
    theta_first : float
        Total angle at which the sheet begins.
    theta_last : float
        Total angle at which it ends.
    z_first : float
        z in the volume at which the sheet begins.
    z_end : float
        z in the volume at which it ends.
    ink_arc : float
        Arc length of the first column of the ink image.
    ink_z : float
        Material z of its first row.
    thickness : float
        Thickness of the papyrus, voxels; less where wraps are too close for it.
    half_width : float
        Half the width of the predicted band, voxels.
    ragged : float
        Relative variation of that width.
    air : float
        Grey value of air.
    papyrus : float
        Grey value of papyrus.
    ink : float
        Grey value that full ink adds.
    fibre : float
        Amplitude of the fibre texture, grey values.
    noise : float
        Standard deviation of the noise before blur, grey values.
    holes : float
        Share of 96 x 80 voxel cells of the sheet with a hole in the prediction.
    specks : float
        Share of 14 x 14 voxel cells of the sheet with a pinhole in the prediction.
    streaks : float
        Threshold above which a fibre is missing in the prediction; 1 for none.
    bridges : float
        Share of 48 x 48 voxel cells of a gap with a bridge.
    blobs : float
        Share of 40 voxel cells of space with a false blob.
    merges : float
        Share of 420 x 360 voxel cells in which neighbouring wraps are merged; where they are
        pressed together they also merge without. 0 for no merging at all.
    tears : float
        Share of 380 x 300 voxel cells in which the sheet is torn out.
    layers : float
        Share of 360 x 260 voxel cells in which a layer leaves the sheet.
    case : float
        Radius of the case as a fraction of the volume's half width; 0 for none.
    case_predicted : float
        Share of the case and its lining that the prediction takes for papyrus.
    """

    seed: int
    theta_first: float
    theta_last: float
    z_first: float
    z_end: float
    ink_arc: float
    ink_z: float
    thickness: float
    half_width: float
    ragged: float
    air: float
    papyrus: float
    ink: float
    fibre: float
    noise: float
    holes: float
    specks: float
    streaks: float
    bridges: float
    blobs: float
    merges: float
    tears: float
    layers: float
    case: float
    case_predicted: float


@inline_kernel
def is_torn(recipe: Recipe, arc: float, z: float) -> bool:
    """Return whether the sheet is torn out at a place.

    Parameters
    ----------
    recipe : Recipe
        The phantom's looks.
    arc : float
        Arc length, voxels.
    z : float
        Material z, voxels.

    Returns
    -------
    bool
        True where there is no papyrus.
    """
    if recipe.tears <= 0.0:
        return False
    rho2, _, _ = find_event(recipe.seed + _TEARS, 380.0, 300.0, recipe.tears, arc, z)
    if rho2 >= 1.0:
        return False
    return rho2 < 1.0 - 0.8 * noise_2d(recipe.seed + _TEARS + 1, arc / 30.0, z / 30.0)


@kernel
def find_torn(
    recipe: Recipe,
    arc: NDArray[np.float64],
    z: NDArray[np.float64],
    out_torn: NDArray[np.bool_],
) -> None:
    """Write whether the sheet is torn out at places.

    Parameters
    ----------
    recipe : Recipe
        The phantom's looks.
    arc : ndarray of float64, shape (n,)
        Arc lengths, voxels.
    z : ndarray of float64, shape (n,)
        Material z, voxels.
    out_torn : ndarray of bool, shape (n,)
        True where there is no papyrus.
    """
    for i in range(arc.shape[0]):
        out_torn[i] = is_torn(recipe, arc[i], z[i])


@inline_kernel
def _is_missed(recipe: Recipe, arc: float, z: float) -> bool:
    """Return whether the prediction has a hole at a place of the sheet."""
    if recipe.holes > 0.0:
        rho2, _, _ = find_event(recipe.seed + _HOLES, 96.0, 80.0, recipe.holes, arc, z)
        if rho2 < 1.0:
            rim = 0.9 * noise_2d(recipe.seed + _HOLES + 1, arc / 9.0, z / 9.0)
            if rho2 < 1.1 - rim:
                return True
    if recipe.specks > 0.0:
        rho2, _, _ = find_event(recipe.seed + _SPECKS, 14.0, 14.0, recipe.specks, arc, z)
        if rho2 < 0.5:
            return True
    if recipe.streaks < 1.0:
        along = noise_2d(recipe.seed + _STREAKS, arc / 55.0, z / 3.5)
        across = noise_2d(recipe.seed + _STREAKS + 1, arc / 3.5, z / 55.0)
        return max(along, across) > recipe.streaks
    return False


@inline_kernel
def _merge_weight(recipe: Recipe, arc: float, z: float, choice: int) -> float:
    """Return how far two wraps are merged, 0 to 1, by the events of one of two kinds."""
    rho2, _, h = find_event(recipe.seed + _MERGES, 420.0, 360.0, recipe.merges, arc, z)
    if rho2 >= 1.0 or (h & 1) != choice:
        return 0.0
    return smooth_step(2.5 * (1.0 - math.sqrt(rho2)))


@inline_kernel
def _merging(
    recipe: Recipe, pitch: float, wrap: int, angle: float, z: float, allowed: float, pressed: float
) -> tuple[float, float, float]:
    """Return how far a gap is filled, and the shifts of its two bands in windings.

    Three wraps 3 g, 3 g + 1, 3 g + 2 may be merged into one thick sheet (or the first two only);
    an even wrap and the next may close in on each other until one thin sheet is left.
    """
    if recipe.merges <= 0.0 or allowed <= 0.0:
        return 0.0, 0.0, 0.0
    group = 3 * (wrap // 3)
    fill = 0.0
    if wrap - group < 2:
        turn = angle + TWO_PI * group
        arc = pitch * turn * turn / (2.0 * TWO_PI)
        both = uniform(recipe.seed + _MERGES, group, 0, 7) < 0.5
        if wrap == group or both:
            crowd = noise_2d(recipe.seed + _MERGES + 1, arc / 150.0, z / 120.0)
            crowded = smooth_step(6.0 * (crowd - 0.42)) * pressed
            fill = max(allowed * _merge_weight(recipe, arc, z, 0), crowded)
    first = wrap if wrap % 2 == 0 else wrap - 1
    turn = angle + TWO_PI * first
    shift = _merge_weight(recipe, pitch * turn * turn / (2.0 * TWO_PI), z, 1)
    shift *= 0.5 * allowed
    if wrap % 2 == 0:
        return fill, shift, -shift
    turn = angle + TWO_PI * (wrap + 1)
    above = _merge_weight(recipe, pitch * turn * turn / (2.0 * TWO_PI), z, 1)
    return fill, -shift, 0.5 * allowed * above


@inline_kernel
def _layer_height(recipe: Recipe, arc: float, z: float) -> float:
    """Return by how many windings a layer has left the recto, 0 where it has not."""
    if recipe.layers <= 0.0:
        return 0.0
    rho2, along, _ = find_event(recipe.seed + _LAYERS, 360.0, 260.0, recipe.layers, arc, z)
    if rho2 >= 1.0 - 0.5 * noise_2d(recipe.seed + _LAYERS + 1, arc / 20.0, z / 20.0):
        return 0.0
    return 0.7 * smooth_step(0.5 * (along + 1.0))


@inline_kernel
def _is_bridge(recipe: Recipe, arc: float, z: float, fraction: float, height: float) -> bool:
    """Return whether a bridge between two wraps passes through a place of a gap."""
    if recipe.bridges <= 0.0:
        return False
    rho2, _, h = find_event(recipe.seed + _BRIDGES, 48.0, 48.0, recipe.bridges, arc, z)
    if rho2 >= 1.0:
        return False
    reach = 0.35 + 0.9 * ((h >> 8) & 255) / 255.0  # from one side; beyond 1 it joins the wraps
    if (h & 1) == 0:
        fraction = 1.0 - fraction
    if fraction > reach:
        return False
    ragged = noise_3d(recipe.seed + _BRIDGES + 1, arc / 7.0, z / 7.0, height / 5.0)
    return ragged > 0.3 + 0.35 * rho2


@inline_kernel
def is_blob(recipe: Recipe, x: float, y: float, z: float) -> bool:
    """Return whether a false blob covers a voxel.

    Parameters
    ----------
    recipe : Recipe
        The phantom's looks.
    x : float
        Voxel.
    y : float
        Voxel.
    z : float
        Voxel.

    Returns
    -------
    bool
        True inside of a blob.
    """
    if recipe.blobs <= 0.0:
        return False
    i = math.floor(x / 40.0)
    j = math.floor(y / 40.0)
    k = math.floor(z / 40.0)
    seed = recipe.seed + _BLOBS
    if uniform(seed, i, j, k) >= recipe.blobs:
        return False
    radius = 3.0 + 8.0 * uniform(seed + 1, i, j, k) ** 2
    span = 40.0 - 2.0 * radius
    dx = x - 40.0 * i - radius - span * uniform(seed + 2, i, j, k)
    dy = y - 40.0 * j - radius - span * uniform(seed + 3, i, j, k)
    dz = z - 40.0 * k - radius - span * uniform(seed + 4, i, j, k)
    return dx * dx + dy * dy + dz * dz < radius * radius


@inline_kernel
def _is_in_band(recipe: Recipe, distance: float, arc: float, z: float) -> bool:
    """Return whether a place at a distance from a band's middle lies in the band."""
    half = recipe.half_width
    if distance <= half * (1.0 - recipe.ragged):
        return True
    if distance > half * (1.0 + recipe.ragged):
        return False
    wobble = noise_2d(recipe.seed + _EDGES, arc / 6.0, z / 6.0) - 0.5
    return distance <= half * (1.0 + 2.0 * recipe.ragged * wobble)


@inline_kernel
def _fibres(recipe: Recipe, arc: float, z: float, depth: float, thickness: float) -> float:
    """Return the texture of papyrus: fibres along the sheet on the recto, along z on the verso.

    Between the two layers there is a crack here and there.
    """
    height = depth / 2.5
    coarse = noise_3d(recipe.seed + _FIBRES + 2, arc / 40.0, z / 40.0, height) - 0.5
    if depth < 0.5 * thickness:
        fine = noise_3d(recipe.seed + _FIBRES, arc / 45.0, z / 2.6, height)
    else:
        fine = noise_3d(recipe.seed + _FIBRES + 1, arc / 2.6, z / 45.0, height)
    crack = noise_2d(recipe.seed + _FIBRES + 3, arc / 28.0, z / 28.0)
    cracked = crack > 0.55 and abs(depth - (0.2 + 0.6 * crack) * thickness) < 0.7
    return recipe.fibre * (1.7 * (fine - 0.5) + 0.8 * coarse - (1.3 if cracked else 0.0))


@inline_kernel
def _ink_at(recipe: Recipe, ink: NDArray[np.uint8], arc: float, z: float) -> float:
    """Return the ink on the sheet, 0 to 1, from the nearest pixel of the ink image."""
    col = math.floor(arc - recipe.ink_arc + 0.5)
    row = math.floor(z - recipe.ink_z + 0.5)
    if row < 0 or col < 0 or row >= ink.shape[0] or col >= ink.shape[1]:
        return 0.0
    return float(ink[row, col]) / 255.0


@inline_kernel
def scroll_voxel(
    recipe: Recipe,
    pitch: float,
    ink: NDArray[np.uint8],
    winding: float,
    angle: float,
    z: float,
    slope: float,
) -> tuple[float, bool]:
    """Return grey value and prediction at a place between the sheet's ends along z.

    Parameters
    ----------
    recipe : Recipe
        The phantom's looks.
    pitch : float
        Distance of wraps in material coordinates, voxels.
    ink : ndarray of uint8, shape (z, arc)
        The ink image.
    winding : float
        Winding of the place.
    angle : float
        Its angle about the axis, [0, 2 pi).
    z : float
        Its material z.
    slope : float
        Length of the winding's gradient in space, per voxel.

    Returns
    -------
    tuple of float and bool
        Grey value without noise, and whether the prediction is positive.
    """
    wrap = math.floor(winding)
    fraction = winding - wrap
    spacing = 1.0 / slope
    turn_in = angle + TWO_PI * wrap
    turn_out = turn_in + TWO_PI
    arc_in = pitch * turn_in * abs(turn_in) / (2.0 * TWO_PI)
    arc_out = pitch * turn_out * turn_out / (2.0 * TWO_PI)
    has_in = recipe.theta_first <= turn_in <= recipe.theta_last
    has_out = recipe.theta_first <= turn_out <= recipe.theta_last
    if not (has_in or has_out):
        return recipe.air, False
    has_in = has_in and not is_torn(recipe, arc_in, z)
    has_out = has_out and not is_torn(recipe, arc_out, z)

    fill = shift_in = shift_out = 0.0
    if has_in or has_out:
        seam = min(angle, TWO_PI - angle) * turn_in * pitch / (TWO_PI * _SEAM)
        open_seam = smooth_step(seam)
        allowed = smooth_step((_TIGHT - spacing) / _TIGHT_RANGE) * open_seam
        pressed = smooth_step((_PRESSED - spacing) / _TIGHT_RANGE) * open_seam
        fill, shift_in, shift_out = _merging(recipe, pitch, wrap, angle, z, allowed, pressed)
    touching = max(fill, abs(shift_in) * 2.0 if wrap % 2 == 0 else 0.0)
    if not (has_in and has_out):
        fill = 0.0

    # Grey value.
    value = recipe.air
    depth = fraction * spacing
    above = spacing - depth  # distance from the recto of the next wrap, on its inner side
    thickness = recipe.thickness
    if 0.8 * thickness < depth < 1.2 * thickness or touching > 0.0:
        uneven = noise_2d(recipe.seed + _EDGES + 2, arc_in / 24.0, z / 24.0)
        thickness *= 0.8 + 0.4 * uneven
    thickness = min(thickness, _FULLEST * spacing)
    thickness += (spacing - thickness) * touching
    if has_in and depth < thickness:
        value = recipe.papyrus + _fibres(recipe, arc_in, z, depth, thickness)
        if depth < 1.2:
            value += recipe.ink * _ink_at(recipe, ink, arc_in, z)
    if has_out and above < 1.6:
        amount = _ink_at(recipe, ink, arc_out, z)
        if amount > 0.0:
            value = max(value, recipe.papyrus) + recipe.ink * amount
    layer = _layer_height(recipe, arc_out, z) if has_out else 0.0
    on_layer = layer > 0.0 and abs(above - layer * spacing) < recipe.half_width
    if on_layer and abs(above - layer * spacing) < 1.5 and value < recipe.papyrus:
        value = recipe.papyrus + _fibres(recipe, arc_out, z, 0.0, thickness)

    # Prediction.
    if (has_in and has_out) and _is_bridge(recipe, arc_in, z, fraction, depth):
        return value, True
    if on_layer and noise_2d(recipe.seed + _LAYERS + 2, arc_out / 8.0, z / 8.0) < 0.75:
        return value, True
    if fill > 0.3 and noise_2d(recipe.seed + _EDGES + 1, arc_in / 12.0, z / 12.0) < 0.3 + fill:
        return value, True
    if has_in and _is_in_band(recipe, abs(fraction - shift_in) * spacing, arc_in, z):
        return value, not _is_missed(recipe, arc_in, z)
    if has_out and _is_in_band(recipe, abs(1.0 + shift_out - fraction) * spacing, arc_out, z):
        if layer > 0.1 and noise_2d(recipe.seed + _LAYERS + 3, arc_out / 15.0, z / 15.0) < 0.5:
            return value, False
        return value, not _is_missed(recipe, arc_out, z)
    return value, False


@inline_kernel
def case_voxel(
    recipe: Recipe, x: float, y: float, z: float, half_width: float
) -> tuple[float, bool]:
    """Return what the case and its lining add to the grey value, and to the prediction.

    Parameters
    ----------
    recipe : Recipe
        The phantom's looks.
    x : float
        Place relative to the middle of the volume, voxels.
    y : float
        Place relative to the middle of the volume, voxels.
    z : float
        Place in the volume, voxels.
    half_width : float
        Half the width of the volume, voxels.

    Returns
    -------
    tuple of float and bool
        Grey value above air, and whether the prediction takes it for papyrus.
    """
    radius = math.sqrt(x * x + y * y)
    around = math.atan2(y, x) * half_width
    wall = recipe.case * half_width
    if radius < 0.8 * wall or radius > wall + 8.0:
        return 0.0, False
    missing = noise_2d(recipe.seed + _CASE, around / 60.0, z / 60.0) > recipe.case_predicted
    if wall <= radius < wall + 6.0:
        return 150.0, wall + 1.0 <= radius < wall + 5.0 and not missing
    # The lining: a crumpled foil that hangs inside the case.
    foil = wall - 2.0 - 0.09 * half_width * noise_2d(recipe.seed + _CASE + 1, around / 70.0, z / 90)
    if abs(radius - foil) < 1.5:
        return 60.0, not missing
    return 0.0, abs(radius - foil) < recipe.half_width and not missing
