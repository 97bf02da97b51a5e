"""The whole number of turns of every vertex: pieces, votes, cuts at jumps, components.

Rounds: patches are numbered as they are; vertices that the majority of their evidence wants
elsewhere break off; all pieces are numbered again. Edges that still contradict are the jumps. At
the end vertices that hang between the sheets (beside a jump, or at a rim that nothing covers) are
taken out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.axis import Axis
from tracer.unroll.evidence import (
    Equations,
    Judged,
    Rays,
    edge_equations,
    edge_steepness,
    touch_equations,
)
from tracer.unroll.frames import Frames
from tracer.unroll.overlaps import Contacts, QuadCells
from tracer.unroll.patches import APPROVED_WEIGHT, Patches
from tracer.unroll.seams import find_seam, place_weights, without
from tracer.unroll.turns import merge_groups, split_pieces, tally

_FIRST_ROUNDS = 3  # first without rays: they mean nothing before gaps and handedness are known
_LEVEL = 0.2  # sine of the angle to the sheet up to which an edge is trusted at first
_ROUNDS = 3  # of breaking off; the second still finds tails that the first one's hid
_MOST_SEAMS = 12  # cuts tried where rays meet their own wrap
_BESIDE_SEAM = 2  # cells from a seam within which patches lie between two wraps
_SEAM_ROUNDS = 2  # of numbering after a cut; the second knows the gaps anew
_BETTER = 0.9  # of the contradiction must be left at most for a cut to count
_BESIDE_CUT = 2  # cells from a jump within which a vertex needs support of its own


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """Where on the spiral every vertex lies.

    Attributes
    ----------
    winding : ndarray of float64, shape (n,)
        Azimuth plus whole turns, growing outward; comparable within a component.
    component : ndarray of int32, shape (n,)
        0 for the largest; -1 for vertices that do not count.
    n_components : int
        How many there are.
    cut : ndarray of bool, shape (e,)
        Grid edges that cross from one wrap to another.
    support : ndarray of int32, shape (n,)
        Touches that agree.
    gap : float
        Usual distance of neighbouring wraps, voxels; NaN where no two were seen.
    handedness : int
        1 if the winding grows with the azimuth on an outward spiral, else -1.
    disagreeing : ndarray of int32, shape (n,)
        Touches that disagree even after the cuts.
    violated : float
        Weight of the touches that disagree, over the weight of all.
    """

    winding: NDArray[np.float64]
    component: NDArray[np.int32]
    n_components: int
    cut: NDArray[np.bool_]
    support: NDArray[np.int32]
    gap: float
    handedness: int
    disagreeing: NDArray[np.int32]
    violated: float


def lay_out(
    patches: Patches, contacts: Contacts, frames: Frames, axis: Axis, cells: QuadCells
) -> Layout:
    """Return the winding of every vertex, with jumping patches cut.

    Parameters
    ----------
    patches : Patches
        The patches.
    contacts : Contacts
        Their overlaps.
    frames : Frames
        Frames of the vertices.
    axis : Axis
        The scroll's axis.
    cells : QuadCells
        Index of the quads.

    Returns
    -------
    Layout
        Windings, components, cuts.
    """
    turns = axis.turns(patches.points_xyz)
    touches = touch_equations(patches, contacts, frames, turns)
    support = np.bincount(touches.i, minlength=patches.n_vertices)
    steepness = edge_steepness(patches, touches, frames)
    edges = edge_equations(patches, support, steepness, turns)
    # nothing is trusted that is steep, or joins what others see to what they do not
    alike = (support[edges.i] > 0) == (support[edges.j] > 0)
    hold = alike & (steepness < _LEVEL)
    piece, whole, n_pieces = split_pieces(patches.n_vertices, turns, patches.edges[hold])
    rays = Rays.cast(patches, frames, cells, support)
    known = [touches, edges]
    for _ in range(_FIRST_ROUNDS):
        component, turn = _number(piece, whole, n_pieces, known)
        total, component = whole + turn[piece], component[piece]
        seen = rays.judge(patches, turns, total, component)
        known = [touches, edges, seen.equations]
    for _ in range(_ROUNDS):
        wanted = total + _wanted_change(patches, total, component, [touches, seen.equations])
        hold = wanted[edges.i] - wanted[edges.j] == edges.shift
        piece, whole, n_pieces = split_pieces(patches.n_vertices, turns, patches.edges[hold])
        before = total
        component, turn = _number(piece, whole, n_pieces, [touches, edges, seen.equations])
        total, component = whole + turn[piece], component[piece]
        seen = rays.judge(patches, turns, total, component)
        if np.ptp(total - before) == 0:
            break
    unmended = _State(total=total, component=component, seen=seen)
    evidence = _Evidence(patches=patches, rays=rays, turns=turns)
    state = _mend(unmended, (touches, edges), evidence)
    framed = (frames.n != 0).any(axis=1)
    if state is not unmended:
        framed &= ~_beside_seams(patches, (touches, edges), unmended, state)
    total, component, seen = state.total, state.component, state.seen
    return _finish(patches, touches, edges, rays, seen, framed, turns, total, component)


def _number(
    piece: NDArray[np.int32],
    whole: NDArray[np.int32],
    n_pieces: int,
    equations: list[Equations],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return component and turn of the pieces that contradict few equations."""
    i = np.concatenate([e.i for e in equations])
    j = np.concatenate([e.j for e in equations])
    shift = np.concatenate([e.shift for e in equations]) - whole[i] + whole[j]
    weight = np.concatenate([e.weight for e in equations])
    a, b = piece[i].astype(np.int64), piece[j].astype(np.int64)
    return merge_groups(n_pieces, tally(a, b, shift, weight))


def _beside_seams(
    patches: Patches, links: tuple[Equations, ...], before: "_State", after: "_State"
) -> NDArray[np.bool_]:
    """Return the vertices between two wraps: near links that held before a seam was cut there."""
    near = np.zeros(patches.n_vertices, bool)
    for held in _holding(links, before):
        agree = after.component[held.i] == after.component[held.j]
        agree &= after.total[held.i] - after.total[held.j] == held.shift
        near[held.i[~agree]] = near[held.j[~agree]] = True
    return _grown(patches, near, _BESIDE_SEAM)


def _grown(patches: Patches, near: NDArray[np.bool_], cells: int) -> NDArray[np.bool_]:
    """Return vertices and those so many cells away on their patches."""
    i, j = patches.edges.T
    for _ in range(cells):
        grown = near.copy()
        grown[j] |= near[i]
        grown[i] |= near[j]
        near = grown
    return near


def _mend(state: "_State", links: tuple[Equations, Equations], evidence: "_Evidence") -> "_State":
    """Return turns and components after cutting where rays meet their own wrap."""
    weight = place_weights(np.bincount(links[0].i, minlength=len(state.total)))
    bad, before = evidence.contradiction(state, weight)
    first: NDArray[np.bool_] | None = None
    apart: list[NDArray[np.bool_]] = []
    for _ in range(_MOST_SEAMS):
        # wraps that see each other as they must hold together as well
        held = _holding((*links, state.seen.equations), state)
        inner = find_seam(held, evidence.rays, bad, weight, first)
        if inner is None:
            break
        # the second failure: nothing tells how the sides lie to each other, so they are not joined
        hopeless = first is not None
        sides = [*apart, first] if hopeless and first is not None else apart
        parted = (without(links[0], inner), without(links[1], inner))
        if hopeless and first is not None:
            parted = (without(links[0], first), without(links[1], first))
        found = evidence.numbered(state, parted, sides)
        now_bad, after = evidence.contradiction(found, weight)
        if after < _BETTER * before:
            state, links, bad, before, apart, first = found, parted, now_bad, after, sides, None
        elif hopeless:
            break
        else:
            first = inner
    return state


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _State:
    """What is known of the turns at some point."""

    total: NDArray[np.int64]
    component: NDArray[np.int64]
    seen: Judged


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Evidence:
    """What numbering needs besides links."""

    patches: Patches
    rays: Rays
    turns: NDArray[np.float64]

    def contradiction(
        self, state: _State, weight: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], float]:
        """Return the rays that meet their own wrap, and the places that they begin in."""
        bad = self.rays.impossible(self.turns, state.total, state.component, state.seen.handedness)
        return bad, float(weight[self.rays.vertex[bad]].sum())

    def numbered(
        self,
        state: _State,
        links: tuple[Equations, Equations],
        apart: list[NDArray[np.bool_]],
    ) -> _State:
        """Return the turns from links and rays, without rays between sides that are apart."""
        edges = links[1]
        holds = state.total[edges.i] - state.total[edges.j] == edges.shift
        n = self.patches.n_vertices
        pairs = np.stack([edges.i, edges.j], axis=1)[holds]
        piece, whole, n_pieces = split_pieces(n, self.turns, pairs)
        seen = state.seen
        for _ in range(_SEAM_ROUNDS):
            told = seen.equations
            for inner in apart:
                told = without(told, inner)
            component, turn = _number(piece, whole, n_pieces, [*links, told])
            total, component = whole + turn[piece], component[piece]
            seen = self.rays.judge(self.patches, self.turns, total, component)
        return _State(total=total, component=component, seen=seen)


def _holding(links: tuple[Equations, ...], state: _State) -> tuple[Equations, ...]:
    """Return the links that agree with the turns: those that hold vertices together."""
    out = []
    for one in links:
        agree = state.component[one.i] == state.component[one.j]
        agree &= state.total[one.i] - state.total[one.j] == one.shift
        out.append(one.select(agree))
    return tuple(out)


def _wanted_change(
    patches: Patches,
    total: NDArray[np.int64],
    component: NDArray[np.int64],
    equations: list[Equations],
) -> NDArray[np.int64]:
    """Return by how much the majority of its equations wants each vertex changed.

    A vertex without evidence of its own goes with the nearest one along its patch.
    """
    i = np.concatenate([e.i for e in equations])
    j = np.concatenate([e.j for e in equations])
    miss = np.concatenate([e.shift for e in equations]) - (total[i] - total[j])
    weight = np.concatenate([e.weight for e in equations])
    known = component[i] == component[j]
    vertex = np.concatenate([i[known], j[known]])
    change = np.concatenate([miss[known], -miss[known]])
    weight = np.concatenate([weight[known], weight[known]])
    order = np.lexsort((change, vertex))
    vertex, change, weight = vertex[order], change[order], weight[order]
    if not len(vertex):
        return np.zeros(patches.n_vertices, np.int64)
    first = np.ones(len(vertex), bool)
    first[1:] = (vertex[1:] != vertex[:-1]) | (change[1:] != change[:-1])
    weight = np.add.reduceat(weight, np.flatnonzero(first))
    vertex, change = vertex[first], change[first]
    everything = np.bincount(vertex, weight, patches.n_vertices)
    leads = 2.0 * weight > everything[vertex] + 1e-9
    wanted = np.zeros(patches.n_vertices, np.int64)
    wanted[vertex[leads]] = change[leads]
    decided = np.zeros(patches.n_vertices, bool)
    decided[vertex[leads]] = True
    return _spread(patches, wanted, decided)


def _spread(
    patches: Patches, wanted: NDArray[np.int64], decided: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return the wishes; undecided vertices follow the nearest decided one on their patch."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import dijkstra

    restless = np.zeros(len(patches.names), bool)
    restless[patches.grid[wanted != 0, 0]] = True
    inside = restless[patches.grid[:, 0]]
    sources = np.flatnonzero(inside & decided)
    if not len(sources):
        return wanted
    number = np.cumsum(inside) - 1
    i, j = patches.edges[inside[patches.edges[:, 0]]].T
    n = int(inside.sum())
    graph = coo_array((np.ones(len(i)), (number[i], number[j])), shape=(n, n)).tocsr()
    _, _, nearest = dijkstra(
        graph, directed=False, indices=number[sources], min_only=True, return_predecessors=True
    )
    vertices = np.flatnonzero(inside)
    reached = nearest >= 0
    out = wanted.copy()
    out[vertices[reached]] = wanted[vertices[nearest[reached]]]
    return out


def _finish(
    patches: Patches,
    touches: Equations,
    edges: Equations,
    rays: Rays,
    seen: Judged,
    framed: NDArray[np.bool_],
    turns: NDArray[np.float64],
    total: NDArray[np.int64],
    component: NDArray[np.int64],
) -> Layout:
    """Return the layout: jumps, support, components by size; what hangs between sheets is out."""
    n = patches.n_vertices
    together = component[edges.i] == component[edges.j]
    cut = ~together | (total[edges.i] - total[edges.j] != edges.shift)
    agree = component[touches.i] == component[touches.j]
    agree &= total[touches.i] - total[touches.j] == touches.shift
    hanging = ~framed | _unsupported_beside_cuts(patches, touches, agree, cut)
    support = np.bincount(touches.i[agree], minlength=n)
    hanging |= _loose_rims(patches, support, rays.vertex[seen.wrong], hanging, cut)
    sizes = np.bincount(component[~hanging], minlength=n)
    by_size = np.argsort(-sizes, kind="stable")
    rank = np.empty(n, np.int32)
    rank[by_size] = np.arange(n, dtype=np.int32)
    handedness = seen.handedness or 1
    weight = touches.weight.sum()
    return Layout(
        winding=handedness * (turns + total),
        component=np.where(hanging, -1, rank[component]).astype(np.int32),
        n_components=int((sizes > 0).sum()),
        cut=cut,
        support=support.astype(np.int32),
        disagreeing=np.bincount(touches.i[~agree], minlength=n).astype(np.int32),
        gap=seen.gap,
        handedness=handedness,
        violated=float(touches.weight[~agree].sum() / weight) if weight else 0.0,
    )


def _unsupported_beside_cuts(
    patches: Patches, touches: Equations, agree: NDArray[np.bool_], cut: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return the vertices near a jump that touch no patch which is sound there."""
    near = np.zeros(patches.n_vertices, bool)
    near[patches.edges[cut]] = True
    near = _grown(patches, near, _BESIDE_CUT - 1)
    sound = agree & ~near[touches.j]
    touched = np.bincount(touches.i[sound], minlength=patches.n_vertices)
    return np.asarray(near & (touched == 0))


def _loose_rims(
    patches: Patches,
    support: NDArray[np.int64],
    blamed: NDArray[np.int32],
    hanging: NDArray[np.bool_],
    cut: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Return vertices without any touch that rays blame, or that hang on such vertices alone."""
    alone = (support == 0) & (patches.weights[patches.grid[:, 0]] < APPROVED_WEIGHT)
    bad = np.zeros(patches.n_vertices, bool)
    bad[blamed] = True
    bad &= alone
    i, j = patches.edges.T
    grown = bad.copy()
    grown[i] |= bad[j]
    grown[j] |= bad[i]
    bad = grown & alone
    # what is left of the uncovered part must still be connected to a covered vertex of its patch
    usable = ~(bad | hanging)
    i, j = patches.edges[~cut & usable[patches.edges].all(axis=1)].T
    anchored = usable & ~alone
    while True:
        grown = anchored.copy()
        grown[i] |= anchored[j]
        grown[j] |= anchored[i]
        if np.array_equal(grown, anchored):
            break
        anchored = grown
    owner = patches.grid[:, 0]
    trimmed = np.zeros(len(patches.names), bool)
    trimmed[owner[bad | hanging]] = True
    covered = np.zeros(len(patches.names), bool)
    covered[owner[~alone]] = True
    return np.asarray(bad | (usable & ~anchored & (trimmed & covered)[owner]))
