"""What `tracer check` costs, by itself and as a collection, and what memory it needs.

Run: python -m benchmarks.bench_check [--tiny]

``planted`` patches of 16 x 20 vertices at step 20 lie on wavy sheets 28 voxels apart, overlapping
about seven times everywhere. ``tiled`` are VC3D's 248 patches of the reference phantom, copied
upwards as one long scroll. One in a hundred has a stale bounding box. Each is a surface on disk. A
fresh process checks them and writes JSON and page, one thread, in CPU-seconds; ``memory_mb`` is its
peak, imports included. ``together_s`` is what laying the whole folder out adds. Where ``compared``,
two workers must give the same bytes.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.bench_spatial_index import make_patches
from benchmarks.growth_inputs import VC3D
from benchmarks.usage import Usage, measure
from tracer.surface import Surface

BROKEN_EVERY = 100
TILE_HEIGHT = 512.0  # voxels, that of the reference phantom
LONGEST_S = 7200.0


@dataclass(frozen=True, slots=True)
class Case:
    """One collection.

    Attributes
    ----------
    name : str
        What it is.
    n_patches : int
        Patches in it.
    kind : str
        "planted" or "tiled".
    compared : bool
        Whether to check with two workers as well.
    """

    name: str
    n_patches: int
    kind: str = "planted"
    compared: bool = False


CASES = (
    Case("1,000 patches", 1_000, compared=True),
    Case("10,000 patches", 10_000, kind="tiled"),
)
TINY = (Case("40 patches", 40, compared=True),)


def patches_of(case: Case) -> Iterator[tuple[str, Surface]]:
    """Yield the patches of a collection with their names."""
    if case.kind == "planted":
        yield from make_patches(case.n_patches).items()
        return
    paths = sorted(path.parent for path in (VC3D / "patches_expanded").glob("*/meta.json"))
    loaded = [Surface.load(path) for path in paths]
    for number in range(case.n_patches):
        tile, which = divmod(number, len(loaded))
        one = loaded[which]
        moved = one.points_xyz + np.float32([0, 0, TILE_HEIGHT * tile])
        points = np.where(one.valid[..., None], moved, one.points_xyz)
        meta = {key: value for key, value in one.meta.items() if key not in ("bbox", "uuid")}
        yield f"patch_{number:05d}", replace(one, points_xyz=points, meta=meta)


def check(paths: Path, out: Path, *options: str) -> Usage:
    """Check a collection in a process of its own; ``out`` gets .html and .json."""
    command = [sys.executable, "-m", "tracer.cli.main", "-q", "check", str(paths), *options]
    page, report = out.with_suffix(".html"), out.with_suffix(".json")
    with report.open("w", encoding="utf-8") as stream:
        words = [*command, "--json", "--html", str(page)]
        used = measure(words, seconds=LONGEST_S, stdout=stream)
    if not used.finished or used.status != 1 or not page.exists():
        raise RuntimeError(f"{paths}: check {' '.join(options)} ended with {used.status}")
    return used


def run(case: Case) -> dict[str, float | str]:
    """Return CPU-seconds and memory of checking a collection; none where data is missing."""
    if case.kind == "tiled" and not VC3D.is_dir():
        return {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vertices = 0
        for number, (patch, surface) in enumerate(patches_of(case)):
            saved = surface.save(folder / "paths" / patch)
            vertices += int(surface.valid.sum())
            if number % BROKEN_EVERY == 0:
                meta = json.loads((saved / "meta.json").read_text())
                meta["bbox"][1][0] += 500.0
                (saved / "meta.json").write_text(json.dumps(meta))
        alone = check(folder / "paths", folder / "alone", "--alone")
        whole = check(folder / "paths", folder / "whole", "--together")
        found = json.loads((folder / "whole.json").read_text(encoding="utf-8"))
        figures: dict[str, float | str] = {
            "vertices": vertices,
            "fail": found["fail"],
            "alone_s": alone.cpu_s,
            "alone_ms_per_patch": 1e3 * alone.cpu_s / case.n_patches,
            "together_s": whole.cpu_s - alone.cpu_s,
            "alone_memory_mb": alone.memory_mb,
            "memory_mb": whole.memory_mb,
            "page_mb": (folder / "whole.html").stat().st_size / 1e6,
            "json_mb": (folder / "whole.json").stat().st_size / 1e6,
        }
        if case.compared:
            check(folder / "paths", folder / "two", "--together", "--workers", "2")
            same = all(
                (folder / f"two{end}").read_bytes() == (folder / f"whole{end}").read_bytes()
                for end in (".html", ".json")
            )
            figures["the same bytes with 2 workers"] = str(same)
    return figures


def main() -> None:
    """Print the figures of every case."""
    for case in TINY if "--tiny" in sys.argv[1:] else CASES:
        for figure, value in run(case).items():
            shown = value if isinstance(value, str) else f"{value:.4g}"
            print(f"{case.name}: {figure:32s} {shown:>10}", flush=True)


if __name__ == "__main__":
    main()
