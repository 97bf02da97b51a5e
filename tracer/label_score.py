"""Score surfaces against labels of sheet instances: each has to stay on one sheet.

Real scrolls have no truth, but some have cubes in which people gave every sheet an id of its own.
A vertex is *labelled* where the voxel it lies in has an id. The *main id* of a surface is the one
that most of its labelled vertices are on; the others are on a foreign sheet.

Conventions
-----------
Voxel (z, y, x) of the labels is centred on the point (x, y, z), as everywhere. Points outside of
the labels are not labelled: what is not known counts neither way.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tracer.errors import NothingFoundError
from tracer.progress import Progress, silent

if TYPE_CHECKING:
    from tracer.surface import Surface
    from tracer.volume import Volume

FOREIGN_LIMIT = 0.01  # share of a surface on other ids beyond which it has left its sheet
_BOX = 128  # voxels; labels are read in boxes of this edge


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledSurface:
    """How one surface lies on the labels.

    Attributes
    ----------
    name : str
        Name of the surface.
    n_vertices : int
        Valid vertices.
    n_labelled : int
        Vertices on a voxel with an id.
    main_id : int
        Id that most of them are on; 0 where none is labelled. Of equal ones the smallest.
    n_foreign : int
        Labelled vertices on another id.
    largest_foreign : int
        Vertices of the largest connected group of those; a few single ones are slips, a group is
        a part of the surface that has changed to another sheet.
    n_ids : int
        Different ids.
    """

    name: str
    n_vertices: int
    n_labelled: int
    main_id: int
    n_foreign: int
    largest_foreign: int
    n_ids: int

    @property
    def is_mixed(self) -> bool:
        """Return whether more than 1 % of the labelled vertices are on another id."""
        return self.n_foreign > FOREIGN_LIMIT * self.n_labelled


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScore:
    """How a set of surfaces lies on the labels.

    Attributes
    ----------
    n_surfaces : int
        Surfaces scored.
    n_vertices : int
        Valid vertices of all.
    labelled : float
        Share of the vertices on a voxel with an id.
    purity : float
        Share of the labelled vertices on the main id of their surface.
    n_mixed : int
        Surfaces with more than 1 % of their labelled vertices on another id.
    n_unlabelled : int
        Surfaces without a labelled vertex: nothing is known about them.
    n_foreign : int
        Labelled vertices of all on another id than the main one of their surface.
    largest_foreign : int
        Vertices of the largest connected group of those.
    surfaces : tuple of LabelledSurface
        One by one.
    """

    n_surfaces: int
    n_vertices: int
    labelled: float
    purity: float
    n_mixed: int
    n_unlabelled: int
    n_foreign: int
    largest_foreign: int
    surfaces: tuple[LabelledSurface, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the score as a JSON object.

        Returns
        -------
        dict
            All figures.
        """
        return asdict(self)

    def summary(self) -> str:
        """Return the main figures in a few lines.

        Returns
        -------
        str
            Text for a person.
        """
        unknown = f"; {self.n_unlabelled} nowhere on a label" if self.n_unlabelled else ""
        ids = {one.main_id for one in self.surfaces if one.n_labelled}
        return (
            f"{self.n_surfaces} surfaces on {len(ids)} ids, {self.n_vertices} vertices, "
            f"{100 * self.labelled:.2f} % of them on a label{unknown}\n"
            f"{100 * self.purity:.3f} % of the labelled vertices are on their surface's main id; "
            f"{self.n_mixed} surfaces have more than {100 * FOREIGN_LIMIT:g} % on another id; "
            f"largest group on another id: {self.largest_foreign} vertices"
        )


def score_labels(
    paths: Iterable[Path | str], labels: "Volume", *, progress: Progress | None = None
) -> LabelScore:
    """Return how the surfaces at some paths lie on labels; one is loaded at a time.

    Parameters
    ----------
    paths : iterable of Path or str
        Surfaces or directories of surfaces.
    labels : Volume
        Id of the sheet per voxel, 0 for none, in the coordinates of the surfaces.
    progress : Progress, optional
        Called after each surface.

    Returns
    -------
    LabelScore
        Pooled figures and those of each surface.

    Raises
    ------
    NothingFoundError
        If there is no surface with a valid vertex, or none lies on a label.
    SurfaceError
        If a path is no directory.
    """
    from tracer.score import find_surfaces
    from tracer.surface import Surface

    report = progress or silent
    found = find_surfaces(paths)

    def load() -> Iterator[Surface]:
        for done, path in enumerate(found):
            yield Surface.load(path, channels=())
            report(done + 1, len(found), path.name)

    return score_labelled_surfaces(load(), labels)


def score_labelled_surfaces(surfaces: Iterable["Surface"], labels: "Volume") -> LabelScore:
    """Return how surfaces lie on labels.

    Parameters
    ----------
    surfaces : iterable of Surface
        Taken one at a time. One without a valid vertex is passed over.
    labels : Volume
        Id of the sheet per voxel, 0 for none, in the coordinates of the surfaces.

    Returns
    -------
    LabelScore
        Pooled figures and those of each surface.

    Raises
    ------
    NothingFoundError
        If there is no surface with a valid vertex, or none lies on a label.
    """
    scored = [_score(surface, labels) for surface in surfaces if surface.valid.any()]
    if not scored:
        raise NothingFoundError("no surface with a valid vertex to score; check the paths")
    n_vertices = sum(one.n_vertices for one in scored)
    n_labelled = sum(one.n_labelled for one in scored)
    n_foreign = sum(one.n_foreign for one in scored)
    if not n_labelled:
        raise NothingFoundError(
            f"{labels.path}: none of {n_vertices} vertices lies on a label; are these labels of "
            "the same scroll, and placed as the surfaces' volume is?"
        )
    return LabelScore(
        n_surfaces=len(scored),
        n_vertices=n_vertices,
        labelled=n_labelled / n_vertices,
        purity=1.0 - n_foreign / n_labelled,
        n_mixed=sum(one.is_mixed for one in scored),
        n_unlabelled=sum(not one.n_labelled for one in scored),
        n_foreign=n_foreign,
        largest_foreign=max(one.largest_foreign for one in scored),
        surfaces=tuple(scored),
    )


def _score(surface: "Surface", labels: "Volume") -> LabelledSurface:
    grid = np.zeros(surface.shape, np.int64)
    grid[surface.valid] = labels_at(labels, surface.points_xyz[surface.valid])
    ids, counts = np.unique(grid[grid > 0], return_counts=True)
    main_id = int(ids[counts.argmax()]) if len(ids) else 0
    foreign = (grid > 0) & (grid != main_id)
    return LabelledSurface(
        name=surface.name,
        n_vertices=int(surface.valid.sum()),
        n_labelled=int(counts.sum()),
        main_id=main_id,
        n_foreign=int(foreign.sum()),
        largest_foreign=_largest_group(foreign),
        n_ids=len(ids),
    )


def _largest_group(chosen: NDArray[np.bool_]) -> int:
    """Return the number of vertices in the largest connected group, diagonals included."""
    from scipy import ndimage

    groups, n = ndimage.label(chosen, np.ones((3, 3)))
    return int(np.bincount(groups.ravel())[1:].max()) if n else 0


def labels_at(labels: "Volume", points_xyz: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Return the label of the voxel that each point lies in.

    Parameters
    ----------
    labels : Volume
        Id per voxel.
    points_xyz : ndarray of float, shape (n, 3)
        Points in voxels.

    Returns
    -------
    ndarray of int64, shape (n,)
        0 outside of the volume.
    """
    voxels = np.floor(np.asarray(points_xyz, np.float64)[:, ::-1] + 0.5).astype(np.int64)
    values = np.zeros(len(voxels), np.int64)
    inside = ((voxels >= 0) & (voxels < labels.shape_zyx)).all(axis=1)
    boxes, box_of = np.unique(voxels[inside] // _BOX, axis=0, return_inverse=True)
    order = np.flatnonzero(inside)
    for number in range(len(boxes)):
        members = order[box_of.ravel() == number]
        low, high = voxels[members].min(axis=0), voxels[members].max(axis=0) + 1
        block = labels.read(0, low.tolist(), high.tolist())
        values[members] = block[tuple((voxels[members] - low).T)]
    return values
