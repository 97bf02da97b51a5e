"""What a run will cost, from the prediction's size and figures measured by the benchmarks."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tracer.run.config import RunParams
    from tracer.volume import Volume

# Measured on one core of the machine of docs/benchmarks.md.
GROW_CPU_S_PER_CM2 = 1.4  # of patch area at 7.91 µm and step 20, everything included, cold cache
UNROLL_CPU_S_PER_VERTEX = 1.6e-4
UNROLL_BYTES_PER_VERTEX = 3.5e3
RENDER_PIXELS_PER_CPU_S = 2.0e7
PREDICT_VOXELS_PER_CPU_S = 1.0e6  # the sheet filter
LAYER_BYTES_PER_PIXEL = 0.7  # LZW
PATCH_BYTES_PER_VERTEX = 20.0
CACHE_BYTES_PER_CHUNK = 2.2e4  # of 128³ voxels that are not empty
SHEET_THICKNESS_VX = 5.0  # of a prediction
WORKER_MEMORY_GB = 1.5
_SAMPLED = 64  # chunks that are read to estimate how much sheet there is


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run will cost.

    Attributes
    ----------
    sheet_cm2 : float
        Area of the predicted sheet.
    patch_cm2 : float
        Area of all patches; they overlap.
    vertices : float
        Vertices of all patches.
    cpu_hours : dict
        By stage.
    memory_gb : dict
        Peak, by stage.
    disk_gb : dict
        By what is written.
    """

    sheet_cm2: float
    patch_cm2: float
    vertices: float
    cpu_hours: dict[str, float]
    memory_gb: dict[str, float]
    disk_gb: dict[str, float]

    def summary(self) -> str:
        """Return the estimate in a few lines.

        Returns
        -------
        str
            Text for a person.
        """
        hours = ", ".join(f"{stage} {value:.3g}" for stage, value in self.cpu_hours.items())
        memory = ", ".join(f"{stage} {value:.3g}" for stage, value in self.memory_gb.items())
        disk = ", ".join(f"{what} {value:.3g}" for what, value in self.disk_gb.items())
        return (
            f"about {self.sheet_cm2:.4g} cm2 of sheet, {self.patch_cm2:.4g} cm2 of patches, "
            f"{self.vertices:.3g} vertices\n"
            f"CPU hours: {hours}; together {sum(self.cpu_hours.values()):.3g}\n"
            f"memory, GB: {memory}\ndisk, GB: {disk}"
        )


def estimate(
    *,
    sheet_cm2: float,
    n_chunks: float,
    voxel_size_um: float,
    layers: int,
    overlap: float,
    ct_voxels: float = 0.0,
) -> Estimate:
    """Return the cost of a run by extrapolation.

    Parameters
    ----------
    sheet_cm2 : float
        Area of the sheet.
    n_chunks : float
        Chunks of 128³ voxels of the prediction that are not empty.
    voxel_size_um : float
        Edge of a voxel.
    layers : int
        Layers to render.
    overlap : float
        How many patches cover a place on average.
    ct_voxels : float
        Voxels of the CT to predict from; 0 where there is a prediction.

    Returns
    -------
    Estimate
        Costs. Growth, unrolling and rendering are linear in the area, prediction in the voxels.
    """
    voxels_per_cm2 = (1e4 / voxel_size_um) ** 2
    patch_cm2 = overlap * sheet_cm2
    vertices = patch_cm2 * voxels_per_cm2 / 400.0
    # growing costs per vertex: an area of smaller voxels has more of them
    grow = GROW_CPU_S_PER_CM2 * patch_cm2 * (7.91 / voxel_size_um) ** 2
    pixels = sheet_cm2 * voxels_per_cm2 * layers
    cpu_s = {
        "predict": ct_voxels / PREDICT_VOXELS_PER_CPU_S,
        "seed and expand": grow,
        "unroll": vertices * UNROLL_CPU_S_PER_VERTEX,
        "render": pixels / RENDER_PIXELS_PER_CPU_S,
    }
    return Estimate(
        sheet_cm2=sheet_cm2,
        patch_cm2=patch_cm2,
        vertices=vertices,
        cpu_hours={stage: seconds / 3600 for stage, seconds in cpu_s.items() if seconds},
        memory_gb={
            "a worker": WORKER_MEMORY_GB,
            "unroll": vertices * UNROLL_BYTES_PER_VERTEX / 1e9,
            "render": 2.1,
        },
        disk_gb={
            "distance cache": n_chunks * CACHE_BYTES_PER_CHUNK / 1e9,
            "patches": vertices * PATCH_BYTES_PER_VERTEX / 1e9,
            "layers": pixels * LAYER_BYTES_PER_PIXEL / 1e9,
            **({"prediction": 0.05 * ct_voxels / 1e9} if ct_voxels else {}),
        },
    )


def estimate_run(
    params: "RunParams", prediction: "Volume | None", ct: "Volume | None", threshold: int = 170
) -> Estimate | None:
    """Return the cost of a run on some volumes.

    Parameters
    ----------
    params : RunParams
        Configuration.
    prediction : Volume or None
        Surface prediction; a sample of its chunks is read.
    ct : Volume or None
        Scan.
    threshold : int
        Smallest prediction value that is sheet.

    Returns
    -------
    Estimate or None
        None without a prediction: how much sheet a scan holds is not known before.
    """
    if prediction is None:
        return None
    chunk = np.array(prediction.chunk_shape_zyx(0))
    grid = -(-np.array(prediction.shape_zyx) // chunk)
    every = [index for index in np.ndindex(*grid.tolist()) if prediction.chunk_exists(0, index)]
    if not every:
        return None
    picked = [every[k] for k in np.unique(np.linspace(0, len(every) - 1, _SAMPLED).astype(int))]
    sheet = 0
    for index in picked:
        start = np.array(index) * chunk
        stop = np.minimum(start + chunk, prediction.shape_zyx)
        z0, y0, x0 = start.tolist()
        z1, y1, x1 = stop.tolist()
        sheet += int((prediction.read(0, (z0, y0, x0), (z1, y1, x1)) >= threshold).sum())
    area_vx2 = sheet / len(picked) * len(every) / SHEET_THICKNESS_VX
    cm2 = area_vx2 * (prediction.voxel_size_um * 1e-4) ** 2
    overlap = min(10.0, max(2.0, params.patches * 0.1 / max(cm2, 1e-9)))
    return estimate(
        sheet_cm2=cm2,
        n_chunks=len(every),
        voxel_size_um=prediction.voxel_size_um,
        layers=params.layers if ct is not None else 0,
        overlap=overlap,
    )
