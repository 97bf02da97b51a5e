"""What does not fit together: jumps, tails, lone sheets and groups, with places to look at."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.patches import Patches
from tracer.unroll.stage import Solved, Unrolled

KINDS = ("jump", "tail", "minority", "component")  # the worst first
_FEWEST_TAIL = 3  # vertices; smaller tails are taken out without a word
_MINORITY = 0.1  # share of a patch's samples on another sheet than the majority


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """One place where a patch contradicts the others.

    Attributes
    ----------
    kind : str
        ``jump`` (crosses to another wrap), ``tail`` (hangs between sheets), ``minority`` (lies on
        another sheet than the patches around it) or ``component`` (touches no others).
    patch : str
        Name of the patch; of the largest one for a component.
    xyz : tuple of float
        Where, voxels.
    turns : int
        Turns between both sides of a jump; 0 for other kinds.
    residual : float
        Those turns as a length along the sheet, voxels.
    cells : tuple of (row, col)
        Vertices of the patch that are concerned; for a jump its edges' ends.
    vertices : int
        How many vertices that are in all.
    """

    kind: str
    patch: str
    xyz: tuple[float, float, float]
    turns: int
    residual: float
    cells: tuple[tuple[int, int], ...]
    vertices: int

    def to_json(self) -> dict[str, Any]:
        """Return the suspect as a JSON object.

        Returns
        -------
        dict
            Its attributes.
        """
        return asdict(self)


def find_suspects(solved: Solved, components: Sequence[Unrolled] | None = None) -> list[Suspect]:
    """Return everything that does not fit, worst first within each kind.

    Parameters
    ----------
    solved : Solved
        Patches laid out.
    components : sequence of Unrolled, optional
        The fused surfaces; without them no minorities are known.

    Returns
    -------
    list of Suspect
        Jumps, tails, minorities, components.
    """
    found = _jumps(solved) + _tails(solved) + lone_components(solved)
    if components:
        found += _minorities(solved, components)
    return sorted(found, key=lambda s: (KINDS.index(s.kind), -s.vertices, s.patch, s.cells))


def _groups(
    n: int, i: NDArray[Any], j: NDArray[Any], members: NDArray[Any]
) -> Iterable[NDArray[Any]]:
    """Yield the members of each connected group, in order."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(n, n))
    _, label = connected_components(graph, directed=False)
    order = np.argsort(label[members], kind="stable")
    sorted_members = members[order]
    bounds = np.flatnonzero(np.diff(label[sorted_members])) + 1
    return [] if not len(members) else np.split(sorted_members, bounds)


def _cells(patches: Patches, vertices: NDArray[Any]) -> tuple[tuple[int, int], ...]:
    return tuple((int(row), int(col)) for row, col in patches.grid[vertices, 1:].tolist())


def _centre(patches: Patches, vertices: NDArray[Any]) -> tuple[float, float, float]:
    """Return the vertex nearest to the mean: a place that lies on the patch."""
    points = patches.points_xyz[vertices].astype(np.float64)
    nearest = np.linalg.norm(points - points.mean(axis=0), axis=1).argmin()
    x, y, z = (round(float(value), 2) for value in points[nearest])
    return x, y, z


def _jumps(solved: Solved) -> list[Suspect]:
    """Return the cuts, one per patch and connected set of cut edges."""
    patches, layout = solved.patches, solved.layout
    edges = patches.edges[layout.cut]
    if not len(edges):
        return []
    ends = np.unique(edges)
    near = patches.edges[np.isin(patches.edges, ends).all(axis=1)]
    short = layout.winding - layout.handedness * solved.axis.turns(patches.points_xyz)
    out = []
    for group in _groups(patches.n_vertices, near[:, 0], near[:, 1], ends):
        whole = np.round(short[group]).astype(np.int64)
        mine = np.isin(edges[:, 0], group)
        steps = np.abs(np.diff(layout.winding[edges[mine]], axis=1))
        turns = int(np.round(np.median(steps))) if len(steps) else int(np.ptp(whole))
        radius = float(np.median(solved.axis.radii(patches.points_xyz[group])))
        out.append(
            Suspect(
                kind="jump",
                patch=patches.names[patches.grid[group[0], 0]],
                xyz=_centre(patches, group),
                turns=turns,
                residual=round(2 * np.pi * radius * turns, 1),
                cells=_cells(patches, group),
                vertices=len(group),
            )
        )
    return out


def _tails(solved: Solved) -> list[Suspect]:
    """Return the vertices that were taken out, one per patch and connected set."""
    patches, layout = solved.patches, solved.layout
    framed = (solved.frames.n != 0).any(axis=1)
    out_of_it = np.flatnonzero((layout.component < 0) & framed)
    gone = np.zeros(patches.n_vertices, bool)
    gone[out_of_it] = True
    inside = patches.edges[gone[patches.edges].all(axis=1)]
    return [
        Suspect(
            kind="tail",
            patch=patches.names[patches.grid[group[0], 0]],
            xyz=_centre(patches, group),
            turns=0,
            residual=0.0,
            cells=_cells(patches, group),
            vertices=len(group),
        )
        for group in _groups(patches.n_vertices, inside[:, 0], inside[:, 1], out_of_it)
        if len(group) >= _FEWEST_TAIL
    ]


def lone_components(solved: Solved) -> list[Suspect]:
    """Return the groups of patches that touch no patch of the largest group.

    Parameters
    ----------
    solved : Solved
        Patches laid out.

    Returns
    -------
    list of Suspect
        One for each component from the second on.
    """
    patches, layout = solved.patches, solved.layout
    out = []
    for number in range(1, layout.n_components):
        members = np.flatnonzero(layout.component == number)
        owner = np.bincount(patches.grid[members, 0]).argmax()
        of_owner = members[patches.grid[members, 0] == owner]
        out.append(
            Suspect(
                kind="component",
                patch=patches.names[owner],
                xyz=_centre(patches, members),
                turns=0,
                residual=0.0,
                cells=_cells(patches, of_owner),
                vertices=len(members),
            )
        )
    return out


def _minorities(solved: Solved, components: Sequence[Unrolled]) -> list[Suspect]:
    """Return the patches of which a part lies on another sheet than the patches around it."""
    patches = solved.patches
    outliers = np.sum([unrolled.sheet.outliers for unrolled in components], axis=0)
    samples = np.sum([unrolled.sheet.samples for unrolled in components], axis=0)
    out = []
    for index in np.flatnonzero(outliers > np.maximum(_MINORITY * samples, _FEWEST_TAIL)).tolist():
        members = np.flatnonzero(patches.grid[:, 0] == index)
        out.append(
            Suspect(
                kind="minority",
                patch=patches.names[index],
                xyz=_centre(patches, members),
                turns=0,
                residual=0.0,
                cells=_cells(patches, members),
                vertices=int(outliers[index]),
            )
        )
    return out


def offending_cells(
    solved: Solved, z_range: tuple[float, float] = (-np.inf, np.inf)
) -> dict[str, list[tuple[int, int]]]:
    """Return the vertices to mask so that no patch lies on two wraps or hangs between sheets.

    Parameters
    ----------
    solved : Solved
        Patches laid out.
    z_range : tuple of float
        Only cells from one height to below another, voxels.

    Returns
    -------
    dict of str to list of (row, col)
        Per patch: vertices taken out, and of a patch that was cut everything but its largest part.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    patches, layout = solved.patches, solved.layout
    n = patches.n_vertices
    framed = (solved.frames.n != 0).any(axis=1)
    active = layout.component >= 0
    offending = ~active & framed
    i, j = patches.edges[~layout.cut & active[patches.edges].all(axis=1)].T
    graph = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(n, n))
    _, piece = connected_components(graph, directed=False)
    size = np.bincount(piece[active], minlength=int(piece.max(initial=0)) + 1)
    for index in np.unique(patches.grid[patches.edges[layout.cut, 0], 0]).tolist():
        mine = np.flatnonzero((patches.grid[:, 0] == index) & active)
        if len(mine):
            offending[mine[piece[mine] != piece[mine[size[piece[mine]].argmax()]]]] = True
    z = patches.points_xyz[:, 2]
    chosen = np.flatnonzero(offending & (z >= z_range[0]) & (z < z_range[1]))
    cells: dict[str, list[tuple[int, int]]] = {}
    for index, row, col in patches.grid[chosen].tolist():
        cells.setdefault(patches.names[index], []).append((row, col))
    return cells


def mask_offending(
    solved: Solved, paths: Path, *, z_range: tuple[float, float] = (-np.inf, np.inf)
) -> dict[str, int]:
    """Mask the offending cells of all patches of a collection.

    Parameters
    ----------
    solved : Solved
        Patches laid out.
    paths : Path
        Their collection.
    z_range : tuple of float
        Only cells from one height to below another, voxels.

    Returns
    -------
    dict of str to int
        Vertices newly masked, per patch that changed.
    """
    from tracer.tifxyz import read_points

    changed = {}
    for name, cells in sorted(offending_cells(solved, z_range).items()):
        rows, cols, _ = read_points(paths / name).shape
        n = mask_cells(paths / name, cells, (rows, cols))
        if n:
            changed[name] = n
    return changed


def mask_cells(directory: Path, cells: Iterable[tuple[int, int]], shape: tuple[int, int]) -> int:
    """Mask vertices of a surface on disk; the mask before is kept beside it.

    Parameters
    ----------
    directory : Path
        Surface directory.
    cells : iterable of (row, col)
        Vertices to mask.
    shape : tuple of int
        Rows and columns of the surface's grid.

    Returns
    -------
    int
        Number of vertices that were not masked before.

    Notes
    -----
    ``mask.tif`` is copied to ``mask.tif.backup`` (``mask.none.backup`` marks that there was none)
    unless a backup exists already, so that the state before the first masking can be restored.
    Further pages (pictures for the annotator) and a finer resolution are kept.
    """
    import shutil

    import tifffile

    from tracer.atomic import replacing_file

    path = directory / "mask.tif"
    kept, none = directory / "mask.tif.backup", directory / "mask.none.backup"
    pages: list[NDArray[Any]] = []
    if path.exists():
        with tifffile.TiffFile(path) as tif:
            pages = [page.asarray() for page in tif.pages]
        if not kept.exists() and not none.exists():
            with replacing_file(kept) as temporary:
                shutil.copyfile(path, temporary)
    else:
        pages = [np.full(shape, 255, np.uint8)]
        if not none.exists():
            none.touch()
    mask = np.array(pages[0])
    fine_rows, fine_cols = mask.shape[0] // shape[0], mask.shape[1] // shape[1]
    changed = 0
    for row, col in cells:
        block = mask[
            row * fine_rows : (row + 1) * fine_rows, col * fine_cols : (col + 1) * fine_cols
        ]
        changed += bool((block != 0).any())
        block[...] = 0
    with replacing_file(path) as temporary, tifffile.TiffWriter(temporary) as writer:
        for page in [mask, *pages[1:]]:
            writer.write(page, contiguous=False)
    return changed
