"""What slabs say of their patches, put together: each answers for its core only."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.findings import Findings, component_members, outline_lines
from tracer.unroll.stage import Solved, Unrolled
from tracer.unroll.suspects import KINDS, Suspect, find_suspects, lone_components

Draw = Callable[[Sequence[Suspect]], tuple[bytes | None, ...]]


class SlabFindings:
    """Findings of all slabs."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._cut: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._gaps: list[float] = []
        self._misfits: list[tuple[float, float]] = []
        self._suspects: list[tuple[Suspect, bytes | None]] = []
        self._apart: list[tuple[int, Suspect]] = []
        self._outlines: list[tuple[int, NDArray[np.float32]]] = []
        self._members: list[tuple[int, int, list[str]]] = []

    def add(
        self,
        solved: Solved,
        components: Sequence[Unrolled],
        group_of: NDArray[np.int64],
        core: tuple[float, float],
        draw: Draw,
    ) -> None:
        """Add what one slab says.

        Parameters
        ----------
        solved : Solved
            Its patches.
        components : sequence of Unrolled
            Their surfaces.
        group_of : ndarray of int64, shape (components,)
            Group of each component.
        core : tuple of float
            Lowest and highest z of what the slab answers for.
        draw : callable
            Returns a picture per suspect.
        """
        patches, layout = solved.patches, solved.layout
        z = patches.points_xyz[:, 2]
        inside = (z >= core[0]) & (z < core[1])
        cut = layout.cut & inside[patches.edges[:, 0]]
        self._names.update(patches.names)
        self._cut.update(
            patches.names[i] for i in np.unique(patches.grid[patches.edges[cut, 0], 0])
        )
        self._counts.update(
            vertices=int(inside.sum()),
            touches=int(inside[solved.contacts.vertex].sum()),
            edges_cut=int(cut.sum()),
            vertices_taken_out=int((inside & (layout.component < 0)).sum()),
            touches_contradicting=int(layout.disagreeing[inside].sum()),
        )
        if not np.isnan(layout.gap):
            self._gaps.append(layout.gap)
        self._misfits.append((solved.plane.residual_median, solved.plane.residual_p99))
        local = [
            suspect
            for suspect in find_suspects(solved, components)
            if suspect.kind != "component" and core[0] <= suspect.xyz[2] < core[1]
        ]
        self._suspects += zip(local, draw(local), strict=True)
        for member in component_members(solved, inside):
            group = int(group_of[member["component"]])
            self._members.append((group, member["vertices"], member["patches"]))
        for number, suspect in enumerate(lone_components(solved), 1):
            self._apart.append((int(group_of[number]), suspect))
        for one in components:
            lines = outline_lines(solved, one.number).astype(np.float32)
            self._outlines.append((int(group_of[one.number]), lines))

    def sizes(self, root_of: NDArray[np.int64]) -> dict[int, int]:
        """Return the vertices of each root, the largest first.

        Parameters
        ----------
        root_of : ndarray of int64, shape (groups,)
            Root of each group.

        Returns
        -------
        dict of int to int
            Vertices; the position is the number of the component.
        """
        total: Counter[int] = Counter()
        for group, n, _ in self._members:
            total[int(root_of[group])] += n
        order = sorted(total, key=lambda root: (-total[root], root))
        return {root: total[root] for root in order if total[root] > 0}

    @property
    def gap(self) -> float:
        """Return the usual distance of neighbouring wraps.

        Returns
        -------
        float
            Voxels; NaN where no slab saw two.
        """
        return float(np.median(self._gaps)) if self._gaps else float("nan")

    def layout_counts(self, n_components: int) -> dict[str, int | float | None]:
        """Return the figures of all layouts together.

        Parameters
        ----------
        n_components : int
            Roots.

        Returns
        -------
        dict
            As of one layout; of the misfit the median over the slabs, and the worst.
        """
        median, worst = np.array(self._misfits).T
        return {
            "patches": len(self._names),
            **self._counts,
            "components": n_components,
            "patches_cut": len(self._cut),
            "wrap_gap": None if np.isnan(self.gap) else round(self.gap, 3),
            "residual_median": round(float(np.median(median)), 4),
            "residual_p99": round(float(worst.max()), 4),
            "slabs": len(self._misfits),
        }

    def all(self, root_of: NDArray[np.int64], shifts: NDArray[np.float64]) -> Findings:
        """Return everything, numbered as the components of the whole.

        Parameters
        ----------
        root_of : ndarray of int64, shape (groups,)
            Root of each group.
        shifts : ndarray of float64, shape (groups, 2)
            What is added to U and V of a group to get those of its root.

        Returns
        -------
        Findings
            Suspects, worst first within each kind.
        """
        sizes = self.sizes(root_of)
        number_of = {root: number for number, root in enumerate(sizes)}
        named: dict[int, set[str]] = {root: set() for root in sizes}
        for group, _, names in self._members:
            if int(root_of[group]) in named:
                named[int(root_of[group])].update(names)
        lines: dict[int, list[NDArray[np.float64]]] = {}
        for group, ends in self._outlines:
            if int(root_of[group]) in number_of:
                number = number_of[int(root_of[group])]
                lines.setdefault(number, []).append(ends + shifts[group])
        apart: dict[int, Suspect] = {}
        for group, suspect in self._apart:
            number = number_of.get(int(root_of[group]), 0)
            if number and (number not in apart or suspect.vertices > apart[number].vertices):
                apart[number] = suspect
        listed = self._suspects + [(suspect, None) for suspect in apart.values()]
        listed.sort(key=lambda item: (KINDS.index(item[0].kind), -item[0].vertices, item[0].patch))
        return Findings(
            patches=len(self._names),
            suspects=tuple(suspect for suspect, _ in listed),
            pictures=tuple(picture for _, picture in listed),
            members=tuple(
                {"component": number_of[root], "vertices": size, "patches": sorted(named[root])}
                for root, size in sizes.items()
            ),
            outlines={number: np.concatenate(parts) for number, parts in lines.items()},
        )
