"""What an unrolling says of its patches beside the surface: suspects, members, outlines."""

import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.data_pass import PredictionVolume
from tracer.unroll.pictures import suspect_picture
from tracer.unroll.resample import usable_quads
from tracer.unroll.suspects import Suspect, find_suspects

if TYPE_CHECKING:
    from tracer.unroll.stage import Solved, Unrolled


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Findings:
    """What is known of the patches.

    Attributes
    ----------
    patches : int
        How many there are.
    suspects : tuple of Suspect
        What does not fit.
    pictures : tuple of bytes or None
        A PNG per suspect, as far as any were drawn.
    members : tuple of dict
        Of each component: ``component``, ``vertices`` and ``patches`` (names).
    outlines : dict of int to ndarray of float64, shape (k, 2, 2)
        Ends of lines around the patches of each component that has a surface, U and V.
    """

    patches: int
    suspects: tuple[Suspect, ...]
    pictures: tuple[bytes | None, ...]
    members: tuple[dict[str, Any], ...]
    outlines: dict[int, NDArray[np.float64]]


def find_all(
    solved: "Solved",
    components: "Sequence[Unrolled] | None" = None,
    *,
    prediction: PredictionVolume | None = None,
    threshold: int = 170,
    pictures: bool = True,
) -> Findings:
    """Return what a layout says of its patches.

    Parameters
    ----------
    solved : Solved
        Patches laid out.
    components : sequence of Unrolled, optional
        Their surfaces; without them no minorities are known.
    prediction : PredictionVolume, optional
        Drawn under the pictures.
    threshold : int
        Lowest value of it that counts as sheet.
    pictures : bool
        Draw suspects.

    Returns
    -------
    Findings
        Suspects, worst first within each kind.
    """
    suspects = find_suspects(solved, components)
    return Findings(
        patches=len(solved.patches.names),
        suspects=tuple(suspects),
        pictures=draw_suspects(suspects, solved, prediction, threshold, pictures=pictures),
        members=component_members(solved),
        outlines={one.number: outline_lines(solved, one.number) for one in components or ()},
    )


def draw_suspects(
    suspects: Sequence[Suspect],
    solved: "Solved",
    prediction: PredictionVolume | None,
    threshold: int,
    *,
    pictures: bool,
) -> tuple[bytes | None, ...]:
    """Return a PNG for each suspect.

    Parameters
    ----------
    suspects : sequence of Suspect
        What was found.
    solved : Solved
        The patches.
    prediction : PredictionVolume or None
        Drawn underneath.
    threshold : int
        Lowest value of it that counts as sheet.
    pictures : bool
        None is drawn otherwise.

    Returns
    -------
    tuple of bytes or None
        One per suspect.
    """
    drawn: list[bytes | None] = [None] * len(suspects)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "suspect.png"
        for number, suspect in enumerate(suspects if pictures else ()):
            suspect_picture(suspect, solved, path, prediction=prediction, threshold=threshold)
            drawn[number] = path.read_bytes()
    return tuple(drawn)


def component_members(
    solved: "Solved", inside: NDArray[np.bool_] | None = None
) -> tuple[dict[str, Any], ...]:
    """Return which patches each component is made of.

    Parameters
    ----------
    solved : Solved
        The patches.
    inside : ndarray of bool, shape (n,), optional
        Vertices that are counted; all where omitted.

    Returns
    -------
    tuple of dict
        ``component`` (0 is the largest), ``vertices`` and ``patches`` (names; a patch that was cut
        can belong to several).
    """
    layout, owner = solved.layout, solved.patches.grid[:, 0]
    component = layout.component if inside is None else np.where(inside, layout.component, -1)
    order = np.argsort(component, kind="stable")
    starts = np.searchsorted(component[order], np.arange(layout.n_components + 1))
    members = []
    for number, (first, last) in enumerate(itertools.pairwise(starts.tolist())):
        names = [solved.patches.names[index] for index in np.unique(owner[order[first:last]])]
        members.append({"component": number, "vertices": last - first, "patches": names})
    return tuple(members)


def outline_lines(solved: "Solved", component: int) -> NDArray[np.float64]:
    """Return the outlines of the patches of a component in the plane.

    Parameters
    ----------
    solved : Solved
        The patches.
    component : int
        Which component.

    Returns
    -------
    ndarray of float64, shape (k, 2, 2)
        Ends of each line, U and V, voxels.
    """
    quads = usable_quads(solved.patches, solved.layout, solved.plane)
    quads = quads[solved.layout.component[quads[:, 0]] == component]
    sides = np.concatenate([quads[:, [0, 1]], quads[:, [2, 3]], quads[:, [0, 2]], quads[:, [1, 3]]])
    sides, count = np.unique(sides, axis=0, return_counts=True)
    return np.asarray(solved.plane.uv[sides[count == 1]])
