"""What the levels mean: the geometry and the looks of an easy, a normal and a hard scroll.

Figures of real scrolls that `hard` is made after: the median distance of neighbouring wraps is 12.8
voxels (local distance 8 to 30, because the roll is crushed), and between 6 and 40 % of a published
prediction's positives are wrong.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tracer.kernels.phantom import TWO_PI
from tracer.kernels.phantom_looks import Recipe
from tracer.phantom.deformation import Crush, Stage, Swirl, Waves
from tracer.phantom.params import PhantomParams
from tracer.phantom.truth import Truth

_MARGIN = 32  # voxels without a sheet at both ends of z; less in small volumes
_MOST_OPEN = 0.35  # largest share of the radius that the empty middle takes
_FITTING_ROUNDS = 12
_HARD_SPACING = 12.8  # voxels, median distance of neighbouring wraps
_SAMPLE_STEP = 16.0  # voxels between samples of the recto that measure the spacing


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """Geometry of a level before it is fitted to a volume.

    Attributes
    ----------
    pitch : (low, high)
        Range of the pitch, voxels.
    wraps_open : float
        Pitches between the axis and the beginning of the sheet.
    extent : float
        Largest radius as a share of the volume's half width.
    crush : (s1, s2)
        Scales of the crush.
    twist : float
        Turn of its axis from one end of the scroll to the other, radians.
    lean : float
        Shift of the axis from one end to the other, as a share of the half width.
    waves : tuple of (count, shortest, longest, lipschitz)
        Sets of waves; wave lengths as shares of the volume's width.
    ripples : float
        Lipschitz bound of a set of waves of 150 to 320 voxels, whatever the size.
    folds : int
        Folds per 512 voxels of z.
    """

    pitch: tuple[float, float]
    wraps_open: float
    extent: float
    crush: tuple[float, float]
    twist: float
    lean: float
    waves: tuple[int, float, float, float]
    ripples: float
    folds: int


_SHAPES = {
    "easy": _Shape(
        pitch=(24.0, 26.0),
        wraps_open=2.0,
        extent=0.9,
        crush=(1.05, 0.97),
        twist=0.4,
        lean=0.04,
        waves=(6, 0.6, 1.4, 0.35),
        ripples=0.0,
        folds=0,
    ),
    "normal": _Shape(
        pitch=(23.5, 25.5),
        wraps_open=2.0,
        extent=0.86,
        crush=(1.06, 0.96),
        twist=0.8,
        lean=0.06,
        waves=(7, 0.5, 1.2, 0.5),
        ripples=0.08,
        folds=0,
    ),
    "hard": _Shape(
        pitch=(12.8, 12.8),
        wraps_open=2.2,
        extent=0.84,
        crush=(1.5, 0.78),
        twist=0.9,
        lean=0.08,
        waves=(5, 0.45, 1.1, 0.78),
        ripples=0.5,
        folds=2,
    ),
}

_COMMON = Recipe(
    seed=0,
    theta_first=0.0,
    theta_last=0.0,
    z_first=0.0,
    z_end=0.0,
    ink_arc=0.0,
    ink_z=0.0,
    thickness=11.0,
    half_width=2.0,
    ragged=0.0,
    air=38.0,
    papyrus=112.0,
    ink=75.0,
    fibre=38.0,
    noise=25.0,
    holes=0.0,
    specks=0.0,
    streaks=1.0,
    bridges=0.0,
    blobs=0.0,
    merges=0.0,
    tears=0.0,
    layers=0.0,
    case=0.0,
    case_predicted=0.0,
)

_LOOKS = {
    "easy": _COMMON,
    "normal": _COMMON._replace(
        ragged=0.12,
        ink=65.0,
        noise=45.0,
        holes=0.3,
        specks=0.12,
        streaks=0.97,
        bridges=0.4,
        blobs=0.12,
        case=0.95,
    ),
    "hard": _COMMON._replace(
        thickness=8.0,
        ragged=0.25,
        ink=60.0,
        noise=60.0,
        fibre=45.0,
        holes=0.45,
        specks=0.25,
        streaks=0.93,
        bridges=0.5,
        blobs=0.12,
        merges=0.85,
        tears=0.16,
        layers=0.2,
        case=0.95,
        case_predicted=0.28,
    ),
}


def plan_phantom(params: PhantomParams) -> Truth:
    """Return the truth of the scroll that some parameters ask for.

    Parameters
    ----------
    params : PhantomParams
        Size, level, seed.

    Returns
    -------
    Truth
        Geometry and looks; its ink image is not drawn yet.
    """
    shape = _SHAPES[params.level]
    looks = _LOOKS[params.level]
    rng = np.random.default_rng([params.rng_seed, 0])
    size_z, size_y, size_x = params.size_zyx
    margin = min(_MARGIN, size_z // 10)
    half = 0.5 * min(size_y, size_x)
    truth = Truth(
        centre_xy=(0.5 * size_x, 0.5 * size_y),
        pitch=float(rng.uniform(*shape.pitch)),
        rmin=1.0,
        rmax=half,
        size_zyx=params.size_zyx,
        z_range=(float(margin), float(size_z - margin)),
        stages=_draw_stages(rng, shape, params.size_zyx),
        thickness=looks.thickness,
        half_width=looks.half_width,
        voxel_size_um=params.voxel_size_um,
        meta={"level": params.level, "rng_seed": params.rng_seed, "text": params.text},
    )
    truth = _fit(truth, shape)
    theta_first, theta_last = truth.theta_range
    slack = truth.z_slack()
    recipe = looks._replace(
        seed=int(rng.integers(2**32)),
        theta_first=theta_first,
        theta_last=theta_last,
        z_first=truth.z_range[0],
        z_end=truth.z_range[1],
        ink_arc=float(math.floor(truth.arc_of_theta(theta_first))),
        ink_z=float(math.floor(truth.z_range[0] - slack)),
    )
    return replace(truth, recipe=recipe)


def _draw_stages(
    rng: np.random.Generator, shape: _Shape, size_zyx: tuple[int, int, int]
) -> tuple[Stage, ...]:
    """Return the deformation of a level, drawn at random."""
    size_z, size_y, size_x = size_zyx
    width = float(min(size_y, size_x))
    middle = (0.5 * size_x, 0.5 * size_y, 0.5 * size_z)
    heading = rng.uniform(0.0, TWO_PI)
    lean = shape.lean * 0.5 * width / size_z
    stages: list[Stage] = [
        Crush(
            centre=middle,
            scales=shape.crush,
            angle=float(rng.uniform(0.0, math.pi)),
            twist=float(rng.choice([-1.0, 1.0])) * shape.twist / size_z,
            lean=(lean * math.cos(heading), lean * math.sin(heading)),
        )
    ]
    count, shortest, longest, lipschitz = shape.waves
    stages.append(_draw_waves(rng, count, (shortest * width, longest * width), lipschitz))
    if shape.ripples > 0.0:
        stages.append(_draw_waves(rng, 6, (150.0, 320.0), shape.ripples))
    n_folds = max(1, round(shape.folds * size_z / 512)) if shape.folds else 0
    stages += [_draw_fold(rng, size_zyx, shape.extent) for _ in range(n_folds)]
    return tuple(stages)


def _draw_waves(
    rng: np.random.Generator, count: int, lengths: tuple[float, float], lipschitz: float
) -> Waves:
    """Return waves across the scroll, with a weak dependence on z, of a given steepness."""
    vectors = []
    amplitudes = []
    for _ in range(count):
        number = TWO_PI / float(rng.uniform(*lengths))
        heading = float(rng.uniform(0.0, TWO_PI))
        dip = float(rng.uniform(-0.5, 0.5))
        level = math.cos(dip)
        vectors.append(
            (
                number * level * math.cos(heading),
                number * level * math.sin(heading),
                number * math.sin(dip),
            )
        )
        # Mostly along the wave vector, so that wraps are squeezed rather than sheared.
        push = heading + float(rng.normal(0.0, 0.6))
        size = lipschitz / (count * number)
        lift = float(rng.uniform(-0.2, 0.2))
        flat = math.sqrt(1.0 - lift * lift)
        amplitudes.append((size * flat * math.cos(push), size * flat * math.sin(push), size * lift))
    phases = tuple(float(phase) for phase in rng.uniform(0.0, TWO_PI, count))
    return Waves(wave_vectors=tuple(vectors), amplitudes=tuple(amplitudes), phases=phases)


def _draw_fold(rng: np.random.Generator, size_zyx: tuple[int, int, int], extent: float) -> Swirl:
    """Return a fold somewhere between the axis and the outer wraps."""
    size_z, size_y, size_x = size_zyx
    half = 0.5 * min(size_y, size_x)
    radius = min(float(rng.uniform(40.0, 55.0)), 0.22 * half)
    away = float(rng.uniform(0.45, 0.7)) * extent * half
    heading = float(rng.uniform(0.0, TWO_PI))
    return Swirl(
        centre=(
            0.5 * size_x + away * math.cos(heading),
            0.5 * size_y + away * math.sin(heading),
            float(rng.uniform(0.3, 0.7)) * size_z,
        ),
        radius=radius,
        half_height=min(float(rng.uniform(90.0, 160.0)), 0.3 * size_z),
        angle=float(rng.choice([-1.0, 1.0]) * rng.uniform(1.7, 2.1)),
    )


def _fit(truth: Truth, shape: _Shape) -> Truth:
    """Return the scroll centred in its volume, as large as the level allows.

    The hard level's pitch is set such that the median distance of neighbouring wraps is right.
    """
    _, size_y, size_x = truth.size_zyx
    half = 0.5 * min(size_y, size_x)
    target = np.array([0.5 * size_x, 0.5 * size_y])
    for done in range(_FITTING_ROUNDS):
        outline = _outline(truth)
        middle = 0.5 * (outline.min(axis=0) + outline.max(axis=0))
        reach = float(np.linalg.norm(outline - target, axis=1).max())
        shift = target - middle if done < _FITTING_ROUNDS - 1 else np.zeros(2)
        truth = replace(
            truth,
            centre_xy=(
                truth.centre_xy[0] + float(shift[0]),
                truth.centre_xy[1] + float(shift[1]),
            ),
            rmax=truth.rmax * shape.extent * half / reach,
        )
        truth = replace(truth, rmin=_inner_radius(truth, shape))
        if shape.folds and done % 3 == 2:
            pitch = truth.pitch * _HARD_SPACING / float(np.median(local_spacing(truth)))
            truth = replace(truth, pitch=pitch)
            truth = replace(truth, rmin=_inner_radius(truth, shape))
    return truth


def _inner_radius(truth: Truth, shape: _Shape) -> float:
    """Return the radius at which the sheet begins: less in a small volume, to leave some sheet."""
    return min(shape.wraps_open * truth.pitch, _MOST_OPEN * truth.rmax)


def _outline(truth: Truth) -> NDArray[np.float64]:
    """Return points around the outermost wrap at several heights, shape (n, 2)."""
    around = np.linspace(0.0, TWO_PI, 180, endpoint=False)
    heights = np.linspace(*truth.z_range, 9)
    angle, z = (grid.ravel() for grid in np.meshgrid(around, heights))
    x = truth.centre_xy[0] + truth.rmax * np.cos(angle)
    y = truth.centre_xy[1] + truth.rmax * np.sin(angle)
    return truth.place(np.stack([x, y, z], axis=-1))[:, :2]


def local_spacing(truth: Truth) -> NDArray[np.float64]:
    """Return the local distance of neighbouring wraps at samples of the recto.

    Parameters
    ----------
    truth : Truth
        The phantom.

    Returns
    -------
    ndarray of float64, shape (n,)
        Voxels in space.
    """
    points, valid, _, _ = truth.recto_grid(_SAMPLE_STEP)
    return np.asarray(1.0 / np.linalg.norm(truth.locate(points[valid]).gradient, axis=-1))
