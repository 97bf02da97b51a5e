"""What a check found: problems, surfaces with their verdicts, the whole report."""

import dataclasses
from dataclasses import dataclass
from typing import Any

FAIL, WARN, PASS = "fail", "warn", "pass"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a surface.

    Attributes
    ----------
    code : str
        What kind: ``unreadable``, ``scale``, ``bbox``, ``area``, ``jump``, ``fold``,
        ``self-intersection``, ``hole``, ``stretch``, ``islands``, ``prediction``, ``overlap`` or
        ``suspect``.
    level : str
        ``fail`` or ``warn``.
    text : str
        One sentence.
    cells : tuple of (row, col)
        Vertices of the grid to look at, at most 64; empty where it is not one place.
    """

    code: str
    level: str
    text: str
    cells: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One surface and what was found.

    Attributes
    ----------
    name : str
        Its name.
    path : str
        Where it lies.
    figures : dict
        What was measured; JSON values.
    problems : tuple of Problem
        What is wrong.
    """

    name: str
    path: str
    figures: dict[str, Any]
    problems: tuple[Problem, ...]

    @property
    def verdict(self) -> str:
        """Return the worst level of its problems.

        Returns
        -------
        str
            ``fail``, ``warn`` or ``pass``.
        """
        levels = {problem.level for problem in self.problems}
        return next((level for level in (FAIL, WARN) if level in levels), PASS)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object.

        Returns
        -------
        dict
            Name, verdict, problems, figures.
        """
        return {
            "name": self.name,
            "verdict": self.verdict,
            "problems": [dataclasses.asdict(problem) for problem in self.problems],
            "figures": self.figures,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All surfaces that were checked.

    Attributes
    ----------
    surfaces : tuple of Checked
        In the order of the paths.
    """

    surfaces: tuple[Checked, ...]

    def count(self, verdict: str) -> int:
        """Return how many surfaces have a verdict.

        Parameters
        ----------
        verdict : str
            ``fail``, ``warn`` or ``pass``.

        Returns
        -------
        int
            Number of surfaces.
        """
        return sum(one.verdict == verdict for one in self.surfaces)

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object.

        Returns
        -------
        dict
            Counts and surfaces.
        """
        return {
            "surfaces": len(self.surfaces),
            **{verdict: self.count(verdict) for verdict in (PASS, WARN, FAIL)},
            "area_vx2": round(sum(s.figures.get("area_vx2", 0.0) for s in self.surfaces), 1),
            "checked": [surface.to_json() for surface in self.surfaces],
        }
