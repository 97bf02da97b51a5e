"""The relative winding of every vertex of one surface, and a list of its jumps.

The azimuth about the axis fixes the winding up to whole turns. Whole turns follow the grid, except
over edges that jump, where the surface meets itself, and from wrap to wrap along the normals, which
meet the next wrap exactly: equations between whole numbers, of which the solution contradicts the
fewest (:mod:`tracer.unroll.turns`). No relaxation, no seed, no smallest number of wraps.
"""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import SurfaceError
from tracer.progress import Progress, silent
from tracer.unroll.axis import Axis, estimate_axis
from tracer.unroll.frames import Frames, build_frames, orientation_signs, patch_normals
from tracer.unroll.layout import lay_out
from tracer.unroll.overlaps import QuadCells, overlap_pairs
from tracer.unroll.patches import Patches
from tracer.unroll.turns import merge_groups, split_pieces, tally, whole_turns_between
from tracer.winding.jumps import Slips, find_slips
from tracer.winding.neighbours import Neighbours, find_neighbours

if TYPE_CHECKING:
    from tracer.surface import Surface

# equations between vertices: a, b, total[a] - total[b], weight
Claims = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

_TOUCH = 2.0  # voxels within which the surface meets itself
_ONE_GAP = (0.5, 1.6)  # a wrap seen at this many gaps is the next one
_SMALLEST_JUMP = 8  # edges: the border of an island of 2 x 2 nodes; fewer are noise
_LEAST_SLIP = 0.5  # of a gap, at three quarters of the edges where numbers alone say jump
_KNOWN_SLIPS = 0.5  # share of these edges that must have one
_WHOLE = 0.8  # share of the rows from which on numbers alone are believed
_ECHO = 3  # nodes from a jump within which what is seen is the jump
_FINEST = 10.0  # voxels; of a finer grid every few nodes decide: jumps span a gap between wraps
_STEPS = ("overlaps", "neighbours", "turns")


@dataclass(frozen=True, slots=True, kw_only=True)
class Discontinuity:
    """A place where the surface jumps to another wrap.

    Attributes
    ----------
    rows : tuple of int
        First and last row.
    cols : tuple of int
        First and last column.
    edges : int
        Grid edges that jump.
    turns : int
        Wraps outward along growing columns (or rows); 0 where it differs along the place.
    xyz : tuple of float
        Middle of one of the edges, voxels.
    """

    rows: tuple[int, int]
    cols: tuple[int, int]
    edges: int
    turns: int
    xyz: tuple[float, float, float]

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object.

        Returns
        -------
        dict
            Its attributes.
        """
        return {
            "rows": list(self.rows),
            "cols": list(self.cols),
            "edges": self.edges,
            "turns": self.turns,
            "xyz": list(self.xyz),
        }

    def scaled(self, stride: int) -> "Discontinuity":
        """Return it on a finer grid.

        Parameters
        ----------
        stride : int
            Nodes of that grid per node of this one.

        Returns
        -------
        Discontinuity
            The same place.
        """
        return dataclasses.replace(
            self,
            rows=(self.rows[0] * stride, self.rows[1] * stride),
            cols=(self.cols[0] * stride, self.cols[1] * stride),
        )

    def summary(self) -> str:
        """Return it as a line.

        Returns
        -------
        str
            Text for a person.
        """
        x, y, z = self.xyz
        return (
            f"  jump of {self.turns:+d} over {self.edges} edges, rows {self.rows[0]}-"
            f"{self.rows[1]}, columns {self.cols[0]}-{self.cols[1]}, at {x:.0f} {y:.0f} {z:.0f}"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Winding:
    """The winding of a surface.

    Attributes
    ----------
    values : ndarray of float32, shape (rows, cols)
        Relative winding, growing outward, 1 per wrap; NaN where there is no vertex.
    component : ndarray of int32, shape (rows, cols)
        Windings are comparable within one; -1 where there is no vertex.
    n_components : int
        How many there are.
    discontinuities : tuple of Discontinuity
        Sheet jumps, the longest first.
    n_wraps : float
        Range of the windings of the largest component.
    gap : float
        Usual distance of neighbouring wraps, voxels; NaN where no wrap sees another.
    axis : Axis
        Given or estimated.
    handedness : int
        1 where windings grow with the azimuth about the axis, else -1.
    """

    values: NDArray[np.float32]
    component: NDArray[np.int32]
    n_components: int
    discontinuities: tuple[Discontinuity, ...]
    n_wraps: float
    gap: float
    axis: Axis
    handedness: int

    @property
    def verdict(self) -> str:
        """Return what the windings say about the surface.

        Returns
        -------
        str
            ``jumps``, ``less than one wrap`` or ``continuous``.
        """
        if self.discontinuities:
            return "jumps"
        return "less than one wrap" if self.n_wraps < 1.0 else "continuous"

    def to_json(self) -> dict[str, Any]:
        """Return everything but the grids as a JSON object.

        Returns
        -------
        dict
            Verdict, number of wraps and components, gap, discontinuities.
        """
        return {
            "verdict": self.verdict,
            "wraps": round(self.n_wraps, 4),
            "components": self.n_components,
            "gap_vx": None if np.isnan(self.gap) else round(self.gap, 3),
            "discontinuities": [jump.to_json() for jump in self.discontinuities],
        }

    def summary(self) -> str:
        """Return the verdict in a few lines.

        Returns
        -------
        str
            Text for a person.
        """
        gap = "no wrap sees another" if np.isnan(self.gap) else f"gap {self.gap:.1f} voxels"
        lines = [f"{self.n_wraps:.2f} wraps, {gap}, {self.n_components} components: {self.verdict}"]
        if self.n_wraps < 1.0:
            lines.append(
                "less than one wrap: no wrap can be compared with the next, so that only steep "
                "steps would be found"
            )
        return "\n".join([*lines, *(jump.summary() for jump in self.discontinuities)])


def solve_winding(
    surface: "Surface", *, axis: Axis | None = None, progress: Progress = silent
) -> Winding:
    """Return the winding of a surface and its jumps.

    Parameters
    ----------
    surface : Surface
        Any orientation: columns outward or inward, normals either way.
    axis : Axis, optional
        The scroll's axis; estimated from the surface where omitted.
    progress : Progress
        Called after each step.

    Returns
    -------
    Winding
        Values, components, discontinuities.

    Raises
    ------
    SurfaceError
        If the surface has no quad.
    """
    stride = max(1, int(_FINEST / surface.step))
    if stride > 1:
        coarse = solve_winding(_thinned(surface, stride), axis=axis, progress=progress)
        return _refined(coarse, surface, stride)
    patches = Patches.from_surfaces([surface])
    if not len(patches.quads):
        raise SurfaceError(f"{surface.name or 'surface'}: no four neighbouring vertices are valid")
    cells = QuadCells.build(patches, _TOUCH)
    contacts = overlap_pairs(patches, cells, _TOUCH)
    progress(1, len(_STEPS), _STEPS[0])
    normals = patch_normals(patches)
    if axis is None:
        axis = estimate_axis(patches.points_xyz, normals)
    signs = orientation_signs(patches, contacts, normals, axis)
    frames = build_frames(normals, signs[patches.grid[:, 0]])
    layout = lay_out(patches, contacts, frames, axis, cells)
    neighbours = find_neighbours(patches, frames, cells, surface.shape)
    progress(2, len(_STEPS), _STEPS[1])
    turns = axis.turns(patches.points_xyz)
    total = np.rint(layout.handedness * layout.winding - turns).astype(np.int64)
    slips = _slips(surface, patches, frames, neighbours)
    edge_turns = _edge_turns(
        patches, slips, neighbours, layout.cut, turns, total, layout.handedness
    )
    total, component = _renumber(
        patches, edge_turns, slips, neighbours, turns, layout.handedness, surface.shape
    )
    progress(3, len(_STEPS), _STEPS[2])
    return _as_winding(
        surface.shape,
        patches,
        layout.handedness * (turns + total),
        component,
        edge_turns,
        neighbours.gap,
        axis,
        layout.handedness,
    )


def _slips(
    surface: "Surface", patches: Patches, frames: Frames, neighbours: Neighbours
) -> tuple[Slips, Slips]:
    """Return the slips down the columns and along the rows."""
    points = np.where(surface.valid[..., None], surface.points_xyz, np.nan).astype(np.float64)
    normals = np.full(points.shape, np.nan)
    framed = (frames.n != 0).any(axis=1)
    _, rows, cols = patches.grid[framed].T
    normals[rows, cols] = frames.n[framed]
    down, along = (find_slips(points, normals, neighbours, surface.step, axis) for axis in (0, 1))
    return down, along


def _edge_turns(
    patches: Patches,
    slips: tuple[Slips, Slips],
    neighbours: Neighbours,
    cut: NDArray[np.bool_],
    turns: NDArray[np.float64],
    total: NDArray[np.int64],
    handedness: int,
) -> NDArray[np.int64]:
    """Return by how many wraps each grid edge jumps outward."""
    i, j = patches.edges.T
    _, rows, cols = patches.grid[i].T
    is_row = patches.grid[j, 2] > patches.grid[i, 2]
    jump = np.where(is_row, slips[1].turns[rows, cols], slips[0].turns[rows, cols]).astype(np.int64)
    met = handedness * (total[j] - total[i] - whole_turns_between(turns, j, i))
    met = np.where(cut, met, 0)
    of_gap = np.where(is_row, slips[1].of_gap[rows, cols], slips[0].of_gap[rows, cols])
    place = _places(patches, met != 0, slips[0].turns.shape)
    for k in range(place.max(initial=-1) + 1):
        here = place == k
        slip = of_gap[here]
        known = slip[np.isfinite(slip)]
        if len(known) >= _KNOWN_SLIPS * len(slip) and np.percentile(known, 25) >= _LEAST_SLIP:
            continue
        whole = np.ptp(rows[here]) + 1 >= _WHOLE * slips[0].turns.shape[0]
        if not whole or _is_echo(rows[here], cols[here], slips, neighbours):
            met[here] = 0
    return np.where(met != 0, met, jump)


def _is_echo(
    rows: NDArray[np.int32],
    cols: NDArray[np.int32],
    slips: tuple[Slips, Slips],
    neighbours: Neighbours,
) -> bool:
    """Return whether nodes that do not slip see a wrap that does: numbers cannot tell the two."""
    from scipy import ndimage

    jumping = (slips[0].turns != 0) | (slips[1].turns != 0)
    if jumping[rows, cols].any():
        return False
    near = ndimage.binary_dilation(jumping, np.ones((3, 3)), iterations=_ECHO)
    seen = neighbours.row[:, rows, cols], neighbours.col[:, rows, cols]
    hit = (near[seen] & (seen[0] >= 0)).any(axis=0)
    return bool(hit.mean() > 0.5)


def _places(
    patches: Patches, jumping: NDArray[np.bool_], shape: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return to which connected place each jumping edge belongs, -1 for all others."""
    from scipy import ndimage

    place = np.full(len(jumping), -1, np.int64)
    ends = patches.edges[jumping]
    marked = np.zeros(shape, bool)
    marked[patches.grid[ends.ravel(), 1], patches.grid[ends.ravel(), 2]] = True
    label, _ = ndimage.label(marked, np.ones((3, 3)))
    place[jumping] = label[patches.grid[ends[:, 0], 1], patches.grid[ends[:, 0], 2]] - 1
    return place


def _renumber(
    patches: Patches,
    edge_turns: NDArray[np.int64],
    slips: tuple[Slips, Slips],
    neighbours: Neighbours,
    turns: NDArray[np.float64],
    handedness: int,
    shape: tuple[int, int],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return whole turns and component of every vertex, jumps taken into account."""
    i, j = patches.edges.T
    n = patches.n_vertices
    loose = np.zeros(n, bool)  # on the way from one wrap to the other
    loose[patches.edges[edge_turns != 0]] = True
    hold = ~loose[i] & ~loose[j]
    piece, whole, n_pieces = split_pieces(n, turns, patches.edges[hold])
    number = np.full(shape, -1, np.int64)
    number[patches.grid[:, 1], patches.grid[:, 2]] = np.arange(n)
    claims = (
        _across_jumps(number, loose, slips, turns, handedness),
        *_along_rays(number, loose, neighbours, turns, handedness),
    )
    a, b, shift = (np.concatenate([claim[k] for claim in claims]) for k in range(3))
    weight = np.concatenate([claim[3] for claim in claims])
    votes = tally(
        piece[a].astype(np.int64), piece[b].astype(np.int64), shift - whole[a] + whole[b], weight
    )
    group, turn = merge_groups(n_pieces, votes)
    total, component = whole + turn[piece], group[piece]
    _settle(patches, loose, turns, total, component)
    return total, component


def _across_jumps(
    number: NDArray[np.int64],
    loose: NDArray[np.bool_],
    slips: tuple[Slips, Slips],
    turns: NDArray[np.float64],
    handedness: int,
) -> Claims:
    """Return equations between the vertices before and after a run of edges that jump."""
    found: list[tuple[int, int, int]] = []
    for axis, slip in enumerate(slips):
        jump = np.moveaxis(slip.turns, axis, 1)
        numbers = np.moveaxis(number, axis, 1)
        for line, turned in zip(numbers, jump, strict=True):
            for run in _runs(turned):
                before, after = run[0], run[-1] + 1
                while before >= 0 and line[before] >= 0 and loose[line[before]]:
                    before -= 1
                while after < len(line) and line[after] >= 0 and loose[line[after]]:
                    after += 1
                if before < 0 or after >= len(line) or min(line[before], line[after]) < 0:
                    continue
                found.append((int(line[after]), int(line[before]), int(turned[run[0]])))
    if not found:
        empty = np.empty(0, np.int64)
        return empty, empty, empty, np.empty(0)
    a, b, jumped = np.array(found, np.int64).T
    shift = whole_turns_between(turns, a.astype(np.int32), b.astype(np.int32))
    return a, b, shift + handedness * jumped, np.ones(len(a))


def _runs(turned: NDArray[np.int8]) -> list[NDArray[np.int64]]:
    """Return the runs of edges of one line that jump the same way."""
    at = np.flatnonzero(turned)
    if not len(at):
        return []
    breaks = np.flatnonzero((np.diff(at) > 1) | (np.diff(turned[at]) != 0)) + 1
    return np.split(at, breaks)


def _along_rays(
    number: NDArray[np.int64],
    loose: NDArray[np.bool_],
    neighbours: Neighbours,
    turns: NDArray[np.float64],
    handedness: int,
) -> list[Claims]:
    """Return equations between wraps that see each other one gap apart."""
    parts: list[Claims] = []
    for side, sign in ((0, 1), (1, -1)):
        ratio = neighbours.distance[side] / neighbours.gap
        use = np.isfinite(ratio) & (ratio > _ONE_GAP[0]) & (ratio < _ONE_GAP[1])
        a = number[neighbours.row[side][use], neighbours.col[side][use]]
        b = number[use]
        free = ~loose[a] & ~loose[b]
        a, b = a[free], b[free]
        shift = whole_turns_between(turns, a.astype(np.int32), b.astype(np.int32))
        parts.append((a, b, shift + handedness * sign, np.full(len(a), 0.5)))
    return parts


def _settle(
    patches: Patches,
    loose: NDArray[np.bool_],
    turns: NDArray[np.float64],
    total: NDArray[np.int64],
    component: NDArray[np.int64],
) -> None:
    """Give vertices on a jump the turns of the nearest vertex beside it, ring by ring."""
    i, j = np.concatenate([patches.edges, patches.edges[:, ::-1]]).T
    open_ = loose.copy()
    while open_.any():
        use = open_[i] & ~open_[j]
        if not use.any():
            return
        vertex, first = np.unique(i[use], return_index=True)
        beside = j[use][first]
        total[vertex] = total[beside] + whole_turns_between(
            turns, vertex.astype(np.int32), beside.astype(np.int32)
        )
        component[vertex] = component[beside]
        open_[vertex] = False


def _as_winding(
    shape: tuple[int, int],
    patches: Patches,
    winding: NDArray[np.float64],
    component: NDArray[np.int64],
    edge_turns: NDArray[np.int64],
    gap: float,
    axis: Axis,
    handedness: int,
) -> Winding:
    """Return the result on the grid, windings counted from the innermost of each component."""
    names, where, count = np.unique(component, return_inverse=True, return_counts=True)
    by_size = np.argsort(-count, kind="stable")
    rank = np.empty(len(names), np.int64)
    rank[by_size] = np.arange(len(names))
    ranked = rank[where]
    lowest = np.full(len(names), np.inf)
    np.minimum.at(lowest, ranked, winding)
    relative = winding - np.floor(lowest)[ranked]
    _, rows, cols = patches.grid.T
    values = np.full(shape, np.nan, np.float32)
    values[rows, cols] = relative
    components = np.full(shape, -1, np.int32)
    components[rows, cols] = ranked
    largest = relative[ranked == 0]
    return Winding(
        values=values,
        component=components,
        n_components=len(names),
        discontinuities=_discontinuities(shape, patches, edge_turns),
        n_wraps=float(np.ptp(largest)),
        gap=gap,
        axis=axis,
        handedness=handedness,
    )


def _thinned(surface: "Surface", stride: int) -> "Surface":
    """Return every few nodes of a surface."""
    from tracer.surface import Surface

    return Surface(
        points_xyz=surface.points_xyz[::stride, ::stride],
        valid=surface.valid[::stride, ::stride],
        scale=(surface.scale[0] / stride, surface.scale[1] / stride),
        meta=surface.meta,
    )


def _refined(coarse: Winding, surface: "Surface", stride: int) -> Winding:
    """Return the winding of all nodes: that of the nearest node that was solved, turned on."""
    from scipy import ndimage

    known = coarse.component >= 0
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    rows = np.minimum((np.arange(surface.shape[0]) + stride // 2) // stride, known.shape[0] - 1)
    cols = np.minimum((np.arange(surface.shape[1]) + stride // 2) // stride, known.shape[1] - 1)
    at = tuple(axis[np.ix_(rows, cols)] for axis in nearest)
    azimuth = coarse.axis.turns(surface.points_xyz)
    beside = azimuth[::stride, ::stride][at]
    on = (azimuth - beside + 0.5) % 1.0 - 0.5
    values = coarse.values[at] + coarse.handedness * on
    return dataclasses.replace(
        coarse,
        values=np.where(surface.valid, values, np.nan).astype(np.float32),
        component=np.where(surface.valid, coarse.component[at], -1).astype(np.int32),
        discontinuities=tuple(jump.scaled(stride) for jump in coarse.discontinuities),
    )


def _discontinuities(
    shape: tuple[int, int], patches: Patches, edge_turns: NDArray[np.int64]
) -> tuple[Discontinuity, ...]:
    """Return connected places of edges that jump."""
    place = _places(patches, edge_turns != 0, shape)
    found = []
    for k in range(place.max(initial=-1) + 1):
        edges = patches.edges[place == k]
        if len(edges) < _SMALLEST_JUMP:
            continue
        grid = patches.grid[edges.ravel(), 1:]
        turned = np.unique(edge_turns[place == k])
        x, y, z = patches.points_xyz[edges[len(edges) // 2]].mean(axis=0).tolist()
        (top, left), (bottom, right) = grid.min(axis=0).tolist(), grid.max(axis=0).tolist()
        found.append(
            Discontinuity(
                rows=(top, bottom),
                cols=(left, right),
                edges=len(edges),
                turns=int(turned[0]) if len(turned) == 1 else 0,
                xyz=(round(x, 1), round(y, 1), round(z, 1)),
            )
        )
    return tuple(sorted(found, key=lambda jump: (-jump.edges, jump.rows, jump.cols)))
