"""Seed coordinates as people paste them from a viewer.

A viewer prints lines such as ``clicked [1234.5, 678, 90]``; everything but the three numbers in
brackets is ignored. Because a click rarely hits the sheet exactly, each point is tried at several
offsets along x.
"""

import re

from tracer.errors import ParamsError

Point = tuple[float, float, float]

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TRIPLE = re.compile(rf"\[\s*({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\]")


def parse_points(text: str, *, where: str = "input") -> list[Point]:
    """Return all ``[x, y, z]`` of a text, in order.

    Parameters
    ----------
    text : str
        What was pasted.
    where : str
        What to call it in messages.

    Returns
    -------
    list of tuple of float
        Points x, y, z in voxels.

    Raises
    ------
    ParamsError
        If there is not a single one.
    """
    points = [(float(x), float(y), float(z)) for x, y, z in _TRIPLE.findall(text)]
    if not points:
        raise ParamsError(
            f"{where}: no point of the form [x, y, z] found; paste the viewer's lines"
        )
    return points


def with_offsets(points: list[Point], offset: float) -> list[Point]:
    """Return each point at -offset, 0 and +offset along x.

    Parameters
    ----------
    points : list of tuple of float
        Points x, y, z in voxels.
    offset : float
        Voxels; 0 leaves the points alone.

    Returns
    -------
    list of tuple of float
        Three points for each, or the points themselves.
    """
    if offset == 0.0:
        return list(points)
    return [(x + d, y, z) for x, y, z in points for d in (-offset, 0.0, offset)]
