"""A trace while it grows: its arrays, how they get longer, how they are saved and read again."""

import dataclasses
from pathlib import Path

import numpy as np

from tracer.atomic import replacing_file
from tracer.errors import FormatError, NothingFoundError
from tracer.kernels.trace_consensus import place_node, promote_around
from tracer.kernels.trace_location import patch_slopes, sample_patch
from tracer.kernels.trace_state import (
    EMPTY,
    SUPPORTED,
    PatchTable,
    TraceLimits,
    TraceState,
    TraceWork,
)
from tracer.trace.params import TraceParams

STATE_NAME = "trace_state.npz"
_ROOM = 48  # patches per node; more add cost but no certainty
_MOST_SLOTS = 256
_MOST_HITS = 4096
_MORE_COLUMNS = 64
_PER_PATCH = ("patch_entry", "hand")


@dataclasses.dataclass(slots=True, kw_only=True)
class Trace:
    """A trace and how far its growth has come.

    Attributes
    ----------
    state : TraceState
        Nodes and entries.
    limits : TraceLimits
        Constants.
    generation : int
        Generations so far.
    first_col : int
        First column of the window; those before it are frozen.
    last_col : int
        One past the last column of the window.
    seed_xyz : tuple of float
        Where it began.
    flipped : bool
        Whether its columns run against those of the seed patch.
    refused : ndarray of int64, shape (3,)
        Candidates refused as contradicted, colliding, lacking consensus, over all generations.
    n_turned : int
        How often the direction of growth was reversed.
    joint : ndarray of int64, shape (3,)
        Joint optimisations so far, nodes they gained, nodes they lost.
    joint_done : int
        Joint optimisations of the present window.
    joint_grown : bool
        Whether a node was added since the last one.
    finished : bool
        Whether nothing more can be added.
    """

    state: TraceState
    limits: TraceLimits
    generation: int
    first_col: int
    last_col: int
    seed_xyz: tuple[float, float, float]
    flipped: bool
    refused: np.ndarray
    n_turned: int = 0
    joint: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3, np.int64))
    joint_done: int = 0
    joint_grown: bool = True
    finished: bool = False

    @property
    def n_cols(self) -> int:
        """Return the number of columns there is room for.

        Returns
        -------
        int
            Allocated columns.
        """
        return len(self.state.status) // self.limits.n_rows

    @property
    def used_cols(self) -> int:
        """Return one past the last column with a node.

        Returns
        -------
        int
            0 for an empty trace.
        """
        for first in (self.first_col, 0):  # all of it is looked at only where the window is empty
            used = np.flatnonzero(self.state.status[first * self.limits.n_rows :])
            if len(used):
                return first + int(used[-1]) // self.limits.n_rows + 1
        return 0

    def make_room(self, n_cols: int) -> None:
        """Append columns until there are enough.

        Parameters
        ----------
        n_cols : int
            Columns needed.
        """
        missing = n_cols - self.n_cols
        if missing > 0:
            more = max(missing, _MORE_COLUMNS, self.n_cols // 2) * self.limits.n_rows
            fresh = _empty_state(more, 0)
            joined = {
                name: getattr(self.state, name)
                if name in _PER_PATCH
                else np.concatenate([getattr(self.state, name), getattr(fresh, name)])
                for name in TraceState._fields
            }
            self.state = TraceState(**joined)

    def turn_round(self) -> None:
        """Reverse the columns, so that the trace grows towards its other end."""
        rows, n_cols = self.limits.n_rows, max(self.used_cols, 1)
        room = self.state.entry_patch.shape[1]

        def moved(entry: np.ndarray) -> np.ndarray:
            node, k = np.divmod(np.maximum(entry, 0), room)
            other = (n_cols - 1 - node // rows) * rows + node % rows
            return np.where(entry >= 0, other * room + k, entry)

        arrays = {}
        for name, value in self.state._asdict().items():
            if name in _PER_PATCH:
                arrays[name] = moved(value) if name == "patch_entry" else -value
                continue
            by_column = value[: n_cols * rows].reshape(n_cols, rows, *value.shape[1:])
            arrays[name] = by_column[::-1].reshape(n_cols * rows, *value.shape[1:]).copy()
        arrays["entry_next"] = moved(arrays["entry_next"])
        arrays["normal"] = -arrays["normal"]
        arrays["dirty"][:] = True
        self.state = TraceState(**arrays)
        self.flipped = not self.flipped
        self.n_turned += 1

    def save(self, path: Path, digest: str = "") -> None:
        """Write everything that is needed to go on.

        Parameters
        ----------
        path : Path
            An ``.npz`` file.
        digest : str
            What tells its patches from others.
        """
        n = max(self.used_cols, 1) * self.limits.n_rows
        arrays = {
            name: value if name in _PER_PATCH else value[:n]
            for name, value in self.state._asdict().items()
        }
        with replacing_file(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                **arrays,
                limits=np.array(self.limits, dtype=np.float64),
                counters=np.array(
                    [
                        self.generation,
                        self.first_col,
                        self.last_col,
                        self.flipped,
                        self.finished,
                        self.n_turned,
                        self.joint_done,
                        self.joint_grown,
                        *self.joint,
                    ]
                ),
                seed_xyz=np.array(self.seed_xyz),
                refused=self.refused,
                digest=np.array(digest),
            )


def load_trace(path: Path, n_patches: int, digest: str = "") -> Trace:
    """Return a trace that was saved.

    Parameters
    ----------
    path : Path
        File written by :meth:`Trace.save`.
    n_patches : int
        Patches that the trace is laid over; they must be the same ones.
    digest : str
        What tells them from others.

    Returns
    -------
    Trace
        Ready to grow on.

    Raises
    ------
    FormatError
        If the file is missing, damaged, or belongs to other patches.
    """
    try:
        with np.load(path) as file:
            state = TraceState(**{name: file[name] for name in TraceState._fields})
            limits = file["limits"].tolist()
            counters = file["counters"].tolist()
            seed, refused = file["seed_xyz"].tolist(), file["refused"]
            saved_digest = str(file["digest"])
    except (OSError, ValueError, KeyError) as error:
        raise FormatError(
            f"{path}: cannot resume from it ({error}); choose another preview"
        ) from error
    if len(state.hand) != n_patches or saved_digest != digest:
        raise FormatError(
            f"{path}: laid over {len(state.hand)} patches, but the collection, its masks or tags "
            f"have changed (it now gives {n_patches}); begin a new trace"
        )
    return Trace(
        state=state,
        limits=TraceLimits(
            **{
                name: int(value) if name in ("n_rows", "straight_min") else value
                for name, value in zip(TraceLimits._fields, limits, strict=True)
            }
        ),
        generation=int(counters[0]),
        first_col=int(counters[1]),
        last_col=int(counters[2]),
        flipped=bool(counters[3]),
        finished=bool(counters[4]),
        n_turned=int(counters[5]),
        joint_done=int(counters[6]),
        joint_grown=bool(counters[7]),
        joint=np.array(counters[8:11], np.int64),
        seed_xyz=(seed[0], seed[1], seed[2]),
        refused=refused,
    )


def _empty_state(n: int, n_patches: int) -> TraceState:
    return TraceState(
        xyz=np.full((n, 3), np.nan),
        normal=np.zeros((n, 3), np.float32),
        flat=np.full((n, 2), np.nan),
        status=np.full(n, EMPTY, np.uint8),
        generation=np.zeros(n, np.int32),
        support=np.zeros(n, np.int32),
        against=np.zeros(n, np.int32),
        n_entries=np.zeros(n, np.int32),
        entry_patch=np.full((n, _ROOM), -1, np.int32),
        entry_location=np.zeros((n, _ROOM, 2)),
        entry_state=np.zeros((n, _ROOM), np.uint8),
        entry_next=np.full((n, _ROOM), -1, np.int64),
        patch_entry=np.full(n_patches, -1, np.int64),
        hand=np.zeros(n_patches, np.int8),
        dirty=np.ones(n, np.bool_),
        tried_score=np.full(n, -1, np.int32),
        tried_place=np.zeros((n, 5)),
        tried_patch=np.zeros(n, np.int32),
        tried_against=np.zeros(n, np.int32),
    )


def make_work(n_patches: int) -> TraceWork:
    """Return scratch memory for the kernels.

    Parameters
    ----------
    n_patches : int
        Patches in the table.

    Returns
    -------
    TraceWork
        Empty.
    """
    hits = min(n_patches + 1, _MOST_HITS)
    return TraceWork(
        slot_of=np.full(n_patches, -1, np.int32),
        patch=np.zeros(_MOST_SLOTS, np.int32),
        near=np.zeros(_MOST_SLOTS, np.int32),
        known=np.zeros((_MOST_SLOTS, 25), np.bool_),
        location=np.zeros((_MOST_SLOTS, 25, 2)),
        solved=np.zeros((_MOST_SLOTS, 5)),
        n_residuals=np.zeros(_MOST_SLOTS, np.int32),
        seen=np.full(_MOST_SLOTS, -1, np.int32),
        point=np.zeros((1, 3)),
        hit_point=np.zeros(hits, np.int64),
        hit_patch=np.zeros(hits, np.int32),
        hit_place=np.zeros((hits, 3)),
        one_known=np.zeros(25, np.bool_),
        one_location=np.zeros((25, 2)),
    )


def begin_trace(
    table: PatchTable, work: TraceWork, seed: int, valid: np.ndarray, params: TraceParams
) -> Trace:
    """Return a trace of four nodes in the middle of a patch.

    Parameters
    ----------
    table : PatchTable
        The patches.
    work : TraceWork
        Scratch.
    seed : int
        Number of the seed patch.
    valid : ndarray of bool, shape (rows, cols)
        Its vertices.
    params : TraceParams
        Parameters.

    Returns
    -------
    Trace
        Its rows run against the z axis, its columns along the patch's own turning sense, or
        against it with `flip_x`.

    Raises
    ------
    NothingFoundError
        If the patch is too small for four nodes, or lies outside the heights asked for.
    """
    view = table.mesh
    first, rows = int(view.patch_start[seed]), int(table.rows[seed])
    cols, cells = int(view.patch_cols[seed]), float(table.cells[seed])
    z_all = view.vertices[:, 2]
    low, high = params.heights()
    z_low, z_high = max(low, float(np.nanmin(z_all))), min(high, float(np.nanmax(z_all)))
    hand = -1.0 if params.flip_x else 1.0
    for row, col in _inner_first(valid):
        _, _, rz, _, _, cz, ok = patch_slopes(view.vertices, first, rows, cols, row, col)
        steep = float(np.hypot(rz, cz))
        if not ok or not steep > 0.0:
            continue
        down = np.array([-rz / steep, -cz / steep])
        right = hand * np.array([-down[1], down[0]])
        places = []
        for i_col in (0, 1):
            for i_row in (0, 1):
                at = np.array([row, col]) + cells * ((i_row - 0.5) * down + (i_col - 0.5) * right)
                x, y, z, ok = sample_patch(
                    view.vertices, first, rows, cols, float(at[0]), float(at[1])
                )
                if ok and z_low <= z <= z_high:
                    places.append((x, y, z, at[0], at[1]))
        if len(places) == 4:
            break
    else:
        raise NothingFoundError(
            f"the seed patch has no room for four nodes {params.spacing:g} voxels apart between z "
            f"{low:g} and {high:g}; choose a larger patch or a smaller step"
        )
    z_seed = float(np.mean([places[0][2], places[2][2]]))
    above = int((z_high - z_seed) // params.spacing) + 1
    below = int((z_seed - z_low) // params.spacing) + 1
    limits = TraceLimits(
        n_rows=above + below + 1,
        spacing=params.spacing,
        top_z=z_seed + above * params.spacing,
        z_min=z_low,
        z_max=z_high,
        same_surface=params.same_surface_th,
        inlier_cost=params.local_cost_inl_th,
        straight_min=params.straight_min_count,
        distance_weight=params.dist_loss_2d_w,
        straight_weight=params.straight_weight,
        z_weight=params.z_loc_loss_w,
        max_against=params.max_against,
    )
    trace = Trace(
        state=_empty_state(_MORE_COLUMNS * limits.n_rows, len(table.rows)),
        limits=limits,
        generation=0,
        first_col=0,
        last_col=min(params.window, most_columns(params)),
        seed_xyz=places[0][:3],
        flipped=params.flip_x,
        refused=np.zeros(3, np.int64),
    )
    state = trace.state
    state.hand[seed] = int(hand)
    nodes = [i_col * limits.n_rows + above + i_row for i_col in (0, 1) for i_row in (0, 1)]
    for node, place in zip(nodes, places, strict=True):
        state.tried_place[node] = place
        state.tried_patch[node] = seed
        state.tried_against[node] = 0
        place_node(table, state, limits, work, node)
    for node in nodes:
        promote_around(table, state, limits, work, node, 0)
    if (state.status[nodes] != SUPPORTED).any():
        raise NothingFoundError("the seed patch lies on itself; choose another one")
    return trace


def most_columns(params: TraceParams) -> int:
    """Return the number of columns that the widest trace has.

    Parameters
    ----------
    params : TraceParams
        Parameters.

    Returns
    -------
    int
        At least 2.
    """
    return max(int(params.max_width / params.spacing) + 1, 2)


def _inner_first(valid: np.ndarray) -> list[tuple[float, float]]:
    """Return the centres of a patch's quads, those farthest from its rim first."""
    from scipy import ndimage

    quads = valid[:-1, :-1] & valid[:-1, 1:] & valid[1:, :-1] & valid[1:, 1:]
    depth = ndimage.distance_transform_edt(np.pad(quads, 1))[1:-1, 1:-1]
    rows, cols = np.nonzero(quads)
    order = np.lexsort((cols, rows, -depth[rows, cols]))
    return [(rows[i] + 0.5, cols[i] + 0.5) for i in order]
