"""What the unrolling tells other stages: where to seed next, and windings for spiral fitting."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracer.unroll.inpaint import DATA, FILLED
from tracer.unroll.stage import UnrollResult

_TARGET_CELLS = 10  # nodes along a side of the tiles that a large hole is divided into
_SMALLEST_HOLE = 4  # nodes; smaller ones are no target
_COLLECTION_STRIDE = 4  # nodes between the points of a collection
_COLLECTIONS_VERSION = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """A place on the sheet that no patch covers.

    Attributes
    ----------
    xyz : tuple of float
        Where the sheet is expected, voxels.
    area : float
        Area around it without patches, square voxels.
    winding : float
        Winding there.
    """

    xyz: tuple[float, float, float]
    area: float
    winding: float

    def to_json(self) -> dict[str, Any]:
        """Return the hole as a JSON object.

        Returns
        -------
        dict
            ``xyz``, ``area``, ``winding``.
        """
        return {"xyz": list(self.xyz), "area": self.area, "winding": self.winding}


def find_holes(result: UnrollResult) -> list[Hole]:
    """Return where patches are missing, largest first: targets for `tracer expand --into`.

    Parameters
    ----------
    result : UnrollResult
        Flat surfaces.

    Returns
    -------
    list of Hole
        One per hole, or per tile of a large one; each at the node farthest from its rim.
    """
    from scipy import ndimage

    holes = []
    for unrolled in result.components:
        filled = unrolled.state == FILLED
        rows, cols = np.indices(filled.shape)
        tile = (rows // _TARGET_CELLS) * (filled.shape[1] // _TARGET_CELLS + 1)
        tile += cols // _TARGET_CELLS
        label, _ = ndimage.label(filled)
        depth = ndimage.distance_transform_edt(np.pad(filled, 1))[1:-1, 1:-1]
        inside = np.flatnonzero(filled)
        key = label.ravel()[inside].astype(np.int64) * (int(tile.max()) + 1) + tile.ravel()[inside]
        order = np.lexsort((inside, -depth.ravel()[inside], key))
        inside, key = inside[order], key[order]
        _, first, count = np.unique(key, return_index=True, return_counts=True)
        points = unrolled.sheet.points_xyz.reshape(-1, 3)
        winding = unrolled.sheet.winding.ravel()
        for at, n in zip(inside[first].tolist(), count.tolist(), strict=True):
            if n >= _SMALLEST_HOLE:
                x, y, z = (round(float(value), 2) for value in points[at])
                area = float(n * unrolled.sheet.step**2)
                holes.append(Hole(xyz=(x, y, z), area=area, winding=round(float(winding[at]), 4)))
    return sorted(holes, key=lambda hole: (-hole.area, hole.xyz))


def winding_collections(result: UnrollResult, *, absolute: bool) -> dict[str, Any]:
    """Return VC3D's point collections with winding annotations, for spiral fitting.

    Parameters
    ----------
    result : UnrollResult
        Flat surfaces.
    absolute : bool
        One collection per wrap whose windings count from the innermost wrap of the largest
        surface; otherwise one collection per radial line, in which only differences count.

    Returns
    -------
    dict
        Content of a point collection file.

    Notes
    -----
    Only points on patches are written, none that were filled in.
    """
    collections: dict[str, Any] = {}
    base = None
    for unrolled in result.components:
        stride = slice(None, None, _COLLECTION_STRIDE)
        data = unrolled.state[stride, stride] == DATA
        points = unrolled.sheet.points_xyz[stride, stride]
        winding = unrolled.sheet.winding[stride, stride]
        if not data.any():
            continue
        if base is None:
            base = float(np.floor(winding[data].min()))
        winding = winding - base
        group = np.floor(winding) if absolute else np.floor((winding % 1.0) * 64)
        row = np.broadcast_to(np.arange(data.shape[0])[:, None], data.shape)
        keys = np.stack([group[data], row[data] if not absolute else 0 * row[data]], axis=1)
        for key, members in _grouped(keys):
            name = f"component{unrolled.number}_" + (
                f"wrap{int(key[0]):03d}"
                if absolute
                else f"row{int(key[1]):04d}_sector{int(key[0]):02d}"
            )
            if not absolute and len(members) < 2:
                continue
            collections[str(len(collections))] = {
                "name": name,
                "points": {
                    str(index): {
                        "p": [round(float(value), 2) for value in point],
                        "wind_a": round(float(turn), 4),
                        "creation_time": 0,
                    }
                    for index, (point, turn) in enumerate(
                        zip(points[data][members], winding[data][members], strict=True)
                    )
                },
                "metadata": {"winding_is_absolute": absolute and unrolled.number == 0},
                "color": _colour(int(key[0])),
            }
    return {"vc_pointcollections_json_version": _COLLECTIONS_VERSION, "collections": collections}


def _grouped(keys: NDArray[Any]) -> list[tuple[NDArray[Any], NDArray[np.int64]]]:
    """Return (key, members) of equal rows, sorted."""
    unique, where = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(where.ravel(), kind="stable")
    bounds = np.searchsorted(where.ravel()[order], np.arange(1, len(unique)))
    return list(zip(unique, np.split(order, bounds), strict=True))


def _colour(index: int) -> list[int]:
    phase = 2 * np.pi * (0.381966 * index + np.array([0.0, 1 / 3, 2 / 3]))
    return [int(value) for value in 128 + 100 * np.cos(phase)]
