"""What a run will cost, from the prediction's size and figures measured by the benchmarks."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tracer.run.config import RunParams
    from tracer.volume import Volume

_SAMPLED = 64  # chunks that are read to estimate how much sheet there is
_SHEET_THICKNESS_VX = 5.0  # of a prediction
_SPACING_VX = 35.0  # between sheets, where only a scan is known
_PATCH_CM2 = 0.33


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What work costs on one core of the machine of docs/benchmarks.md.

    Attributes
    ----------
    grow_cpu_s_per_cm2 : float
        Of patch area at 7.91 µm and step 20, everything included, cold cache.
    expand_main_cpu_s_per_patch : float
        The part of it that the main process does, whatever the number of workers.
    unroll_cpu_s_per_vertex, unroll_bytes_per_vertex : float
        With a prediction.
    trace_cpu_s_per_vertex : float
        One trace, per vertex of the patches.
    trace_bytes_per_vertex : float
        The patches, their layout and their index, besides the slab that is being laid out.
    fuse_cpu_s_per_vertex, winding_cpu_s_per_vertex : float
        Of the traces.
    check_cpu_s_per_patch : float
        Laid out together as well.
    render_pixels_per_cpu_s : float
        Pixels of all layers.
    predict_voxels_per_cpu_s : float
        The sheet filter.
    layer_bytes_per_pixel : float
        LZW.
    patch_bytes_per_vertex, cache_bytes_per_chunk : float
        On disk; chunks of 128³ voxels that are not empty.
    prediction_bytes_per_voxel : float
        On disk, compressed.
    worker_gb, render_gb : float
        Peak memory.
    """

    grow_cpu_s_per_cm2: float = 0.95
    expand_main_cpu_s_per_patch: float = 0.033
    unroll_cpu_s_per_vertex: float = 1.6e-4
    unroll_bytes_per_vertex: float = 3.2e3
    trace_cpu_s_per_vertex: float = 2.0e-4
    trace_bytes_per_vertex: float = 300.0
    fuse_cpu_s_per_vertex: float = 3.5e-5
    winding_cpu_s_per_vertex: float = 1.2e-6
    check_cpu_s_per_patch: float = 0.045
    render_pixels_per_cpu_s: float = 2.0e7
    predict_voxels_per_cpu_s: float = 2.0e6
    layer_bytes_per_pixel: float = 0.7
    patch_bytes_per_vertex: float = 36.0
    cache_bytes_per_chunk: float = 2.15e4
    prediction_bytes_per_voxel: float = 0.02
    worker_gb: float = 1.5
    render_gb: float = 2.1


_MEASURED = Measured()


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run will cost.

    Attributes
    ----------
    sheet_cm2 : float
        Area of the predicted sheet.
    patch_cm2 : float
        Area of all patches; they overlap.
    n_patches : float
        Patches of 0.33 cm² at 7.91 µm.
    vertices : float
        Vertices of all patches.
    cpu_hours : dict
        By stage.
    serial_hours : float
        The part of expanding that one process does: more workers do not make it shorter.
    memory_gb : dict
        Peak, by stage.
    unroll_whole_gb : float
        What all patches laid out at once would take.
    disk_gb : dict
        By what is written.
    """

    sheet_cm2: float
    patch_cm2: float
    n_patches: float
    vertices: float
    cpu_hours: dict[str, float]
    serial_hours: float
    memory_gb: dict[str, float]
    unroll_whole_gb: float
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
            f"{self.n_patches:.3g} patches, {self.vertices:.3g} vertices\n"
            f"CPU hours: {hours}; together {sum(self.cpu_hours.values()):.3g}, of which "
            f"{self.serial_hours:.3g} by one process, the others divided among workers\n"
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
    way: str = "unroll",
    memory_gb: float = 8.0,
    measured: Measured = _MEASURED,
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
    way : str
        ``unroll`` or ``trace``.
    memory_gb : float
        What laying patches out may take; larger collections go in slabs.
    measured : Measured
        Costs of a unit of work.

    Returns
    -------
    Estimate
        Growth, unrolling and rendering are linear in the area, prediction in the voxels.
    """
    m = measured
    voxels_per_cm2 = (1e4 / voxel_size_um) ** 2
    patch_cm2 = overlap * sheet_cm2
    sheet_vertices = sheet_cm2 * voxels_per_cm2 / 400.0
    vertices = overlap * sheet_vertices
    # growing costs per vertex: an area of smaller voxels has more of them
    n_patches = patch_cm2 / _PATCH_CM2 * (7.91 / voxel_size_um) ** 2
    pixels = sheet_cm2 * voxels_per_cm2 * layers
    cpu_s = {
        "predict": ct_voxels / m.predict_voxels_per_cpu_s,
        "seed and expand": m.grow_cpu_s_per_cm2 * patch_cm2 * (7.91 / voxel_size_um) ** 2,
    }
    if way == "trace":
        cpu_s["trace both ways"] = 2 * vertices * m.trace_cpu_s_per_vertex
        cpu_s["winding"] = 2 * sheet_vertices * m.winding_cpu_s_per_vertex
        cpu_s["fuse and ground"] = 4 * sheet_vertices * m.fuse_cpu_s_per_vertex
    else:
        cpu_s["unroll"] = vertices * m.unroll_cpu_s_per_vertex
    cpu_s["render"] = pixels / m.render_pixels_per_cpu_s
    cpu_s["check"] = n_patches * m.check_cpu_s_per_patch
    whole_gb = vertices * m.unroll_bytes_per_vertex / 1e9
    slab_gb = min(whole_gb, memory_gb)
    held_gb = vertices * m.trace_bytes_per_vertex / 1e9 if way == "trace" else 0.0
    return Estimate(
        sheet_cm2=sheet_cm2,
        patch_cm2=patch_cm2,
        n_patches=n_patches,
        vertices=vertices,
        cpu_hours={stage: seconds / 3600 for stage, seconds in cpu_s.items() if seconds},
        serial_hours=n_patches * m.expand_main_cpu_s_per_patch / 3600,
        memory_gb={
            "a worker": m.worker_gb,
            way: slab_gb + held_gb,
            "render": m.render_gb,
        },
        unroll_whole_gb=whole_gb,
        disk_gb={
            "distance cache": n_chunks * m.cache_bytes_per_chunk / 1e9,
            "patches": vertices * m.patch_bytes_per_vertex / 1e9,
            "layers": pixels * m.layer_bytes_per_pixel / 1e9,
            **({"prediction": m.prediction_bytes_per_voxel * ct_voxels / 1e9} if ct_voxels else {}),
        },
    )


def estimate_run(
    params: "RunParams", prediction: "Volume | None", ct: "Volume | None"
) -> Estimate | None:
    """Return the cost of a run on some volumes.

    Parameters
    ----------
    params : RunParams
        Configuration.
    prediction : Volume or None
        Surface prediction; a sample of its chunks is read.
    ct : Volume or None
        Scan. Without a prediction a sheet every 35 voxels is assumed wherever it is not empty.

    Returns
    -------
    Estimate or None
        None without any volume.
    """
    volume = prediction or ct
    if volume is None:
        return None
    threshold = int(params.seed.get("threshold", 170)) if prediction is not None else 1
    n_chunks, filled = _filled_voxels(volume, threshold)
    if not n_chunks:
        return None
    thickness = _SHEET_THICKNESS_VX if prediction is not None else _SPACING_VX
    cm2 = filled / thickness * (volume.voxel_size_um * 1e-4) ** 2
    overlap = min(10.0, max(2.0, params.patches * _PATCH_CM2 / max(cm2, 1e-9)))
    return estimate(
        sheet_cm2=cm2,
        n_chunks=n_chunks * float(np.prod(volume.chunk_shape_zyx(0))) / 128**3,
        voxel_size_um=volume.voxel_size_um,
        layers=params.layers if ct is not None else 0,
        overlap=overlap,
        ct_voxels=float(np.prod(volume.shape_zyx)) if prediction is None else 0.0,
        way=params.way,
        memory_gb=float(params.unroll.get("memory_gb", 8.0)),
    )


def _filled_voxels(volume: "Volume", threshold: int) -> tuple[int, float]:
    """Return the chunks that exist and, from a sample of them, the voxels above a threshold."""
    chunk = np.array(volume.chunk_shape_zyx(0))
    grid = -(-np.array(volume.shape_zyx) // chunk)
    every = [index for index in np.ndindex(*grid.tolist()) if volume.chunk_exists(0, index)]
    if not every:
        return 0, 0.0
    picked = [every[k] for k in np.unique(np.linspace(0, len(every) - 1, _SAMPLED).astype(int))]
    filled = 0
    for index in picked:
        start = np.array(index) * chunk
        stop = np.minimum(start + chunk, volume.shape_zyx)
        z0, y0, x0 = start.tolist()
        z1, y1, x1 = stop.tolist()
        filled += int((volume.read(0, (z0, y0, x0), (z1, y1, x1)) >= threshold).sum())
    return len(every), filled / len(picked) * len(every)
