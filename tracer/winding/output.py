"""Write a winding into its surface: channels, metadata, point collections."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracer.atomic import replacing_file, write_json
from tracer.collection import locate_patch
from tracer.tif import write_tif
from tracer.unroll.pictures import rainbow
from tracer.winding.solve import Winding

if TYPE_CHECKING:
    from tracer.surface import Surface

POINTS = "winding_points.json"
_STRIDE = 4  # nodes between the points of a collection
_VERSION = "1"


def write_winding(directory: Path, surface: "Surface", winding: Winding) -> None:
    """Write ``winding.tif``, ``wind_vis.tif``, the verdict and a point collection.

    Parameters
    ----------
    directory : Path
        The surface's directory.
    surface : Surface
        What was loaded from it.
    winding : Winding
        What was found.
    """
    vis = np.where(surface.valid[..., None], rainbow(winding.values.astype(np.float64)), 0)
    collection, name = locate_patch(directory)
    for channel, grid in (("winding", winding.values), ("wind_vis", vis.astype(np.uint8))):
        with replacing_file(directory / f"{channel}.tif") as temporary:
            write_tif(temporary, grid)
    write_json(directory / POINTS, point_collections(surface, winding))

    def add(meta: dict[str, Any]) -> None:
        meta["channels"] = sorted({*meta.get("channels", []), "winding", "wind_vis"})
        meta["winding"] = winding.to_json()

    collection.update_meta(name, add)


def point_collections(surface: "Surface", winding: Winding) -> dict[str, Any]:
    """Return VC3D's point collections with relative windings, for spiral fitting.

    Parameters
    ----------
    surface : Surface
        The surface.
    winding : Winding
        Its winding.

    Returns
    -------
    dict
        One collection per row (every fourth) and component, a point every fourth column.
    """
    collections: dict[str, Any] = {}
    for row in range(0, surface.shape[0], _STRIDE):
        cols = np.arange(0, surface.shape[1], _STRIDE)
        for component in range(winding.n_components):
            use = cols[winding.component[row, cols] == component]
            if len(use) < 2:
                continue
            points = {
                str(k): {
                    "p": [round(float(value), 2) for value in surface.points_xyz[row, col]],
                    "wind_a": round(float(winding.values[row, col]), 4),
                    "creation_time": 0,
                }
                for k, col in enumerate(use.tolist())
            }
            collections[str(len(collections))] = {
                "name": f"{surface.name}_component{component}_row{row:05d}",
                "points": points,
                "metadata": {"winding_is_absolute": False},
                "color": [255, 160, 0],
            }
    return {"vc_pointcollections_json_version": _VERSION, "collections": collections}
