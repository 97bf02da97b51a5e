"""The prototype of patch growth, where it lies beside the checkout, to compare the stage with.

It holds the whole field in memory as two float32 arrays: it shows what growing alone costs.
"""

import importlib.util
import time
from pathlib import Path
from types import ModuleType

import numpy as np

from benchmarks.growth_inputs import ROOT, Input
from tracer.surface import Surface
from tracer.volume import Volume

SOURCE = ROOT.parent / "shared" / "prototypes" / "patch_growth.py"
STEP = 20.0
_SAMPLES, _SWEEPS, _RINGS = 5, 2, 3  # per edge, per generation, generations: its best settings
_THICK, _ANGLE = 1.9, 0.5  # its sheet test


class Prototype:
    """The prototype on one prediction.

    Parameters
    ----------
    source : Path
        Its file.
    given : Input
        Prediction and seeds.
    generations : int
        Rounds of growth.
    """

    def __init__(self, source: Path, given: Input, generations: int) -> None:
        import edt

        self._module = _load(source)
        volume = Volume.open(given.prediction)
        self._sheet = volume.read(0, (0, 0, 0), volume.shape_zyx) >= 170
        outside = np.minimum(edt.edt(~self._sheet, parallel=1), 20).astype(np.float32)
        inside = np.minimum(edt.edt(self._sheet, parallel=1), 3).astype(np.float32)
        field = outside + (3 - inside)
        self._fields = (field - field.min(), outside)
        self._seeds = [(np.array(p), *_frame(self._sheet, np.array(p))) for p in given.points]
        self._generations = generations
        self._grow(self._seeds[0], 0.0, 6)  # compiles

    def grow(self, with_test: bool) -> tuple[float, list[Surface]]:
        """Return the CPU seconds that all seeds take, and all surfaces."""
        started = time.process_time()
        grids = [
            self._grow(seed, _THICK if with_test else 0.0, self._generations)
            for seed in self._seeds
        ]
        spent = time.process_time() - started
        surfaces = [
            Surface(points_xyz=grid, valid=grid[..., 0] != -1, scale=(1 / STEP, 1 / STEP))
            for grid in grids
        ]
        return spent, surfaces

    def _grow(self, seed: tuple[np.ndarray, ...], thick: float, generations: int) -> np.ndarray:
        point, u, v = seed
        grid, _ = self._module.grow(
            *(self._sheet, thick, _ANGLE, *self._fields),
            *(*point, *u, *v),
            *(STEP, generations, _SAMPLES, _SWEEPS, _RINGS),
        )
        return grid


def find_prototype(given: Input, generations: int) -> Prototype | None:
    """Return the prototype, None where it does not lie beside the checkout."""
    return Prototype(SOURCE, given, generations) if SOURCE.is_file() else None


def _load(source: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("growth_prototype_source", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _frame(sheet: np.ndarray, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the directions of columns and rows at a seed, as the prototype chooses them."""
    x, y, z = point.astype(int)
    low = np.maximum(np.array([z, y, x]) - 8, 0)
    box = sheet[low[0] : z + 9, low[1] : y + 9, low[2] : x + 9]
    around = (np.argwhere(box) + low)[:, ::-1] - (x, y, z)
    around = around[(around**2).sum(axis=1) < 64]
    normal = np.linalg.eigh(np.cov(around.T))[1][:, 0]
    along = np.array([0.0, 0.0, 1.0]) - normal[2] * normal
    along /= np.linalg.norm(along)
    return np.cross(along, normal), along
