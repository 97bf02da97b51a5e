"""What `tracer check` costs, by itself and as a collection, and what memory it needs.

Run: python -m benchmarks.bench_check [--tiny]

Patches of 16 x 20 vertices at step 20 lie on wavy sheets 28 voxels apart, overlapping about seven
times everywhere; one in a hundred has a stale bounding box. Each is a surface on disk. A fresh
process checks them and writes JSON and page, one thread, in CPU-seconds; ``memory_mb`` is its peak,
imports included. ``together_s`` is what laying the whole folder out adds.
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench_spatial_index import make_patches
from benchmarks.usage import measure

BROKEN_EVERY = 100


@dataclass(frozen=True, slots=True)
class Case:
    """One collection.

    Attributes
    ----------
    name : str
        What it is.
    n_patches : int
        Patches in it.
    """

    name: str
    n_patches: int


CASES = (Case("1,000 patches", 1_000), Case("10,000 patches", 10_000))
TINY = (Case("40 patches", 40),)


def run(case: Case) -> dict[str, float]:
    """Return CPU-seconds and memory of checking a collection."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / "paths"
        for number, (name, surface) in enumerate(make_patches(case.n_patches).items()):
            saved = surface.save(paths / name)
            if number % BROKEN_EVERY == 0:
                meta = json.loads((saved / "meta.json").read_text())
                meta["bbox"][1][0] += 500.0
                (saved / "meta.json").write_text(json.dumps(meta))
        found = {}
        for way in ("alone", "together"):
            command = [
                sys.executable,
                "-m",
                "tracer.cli.main",
                "-q",
                "check",
                str(paths),
                f"--{way}",
            ]
            page = Path(folder) / f"{way}.html"
            used = measure([*command, "--html", str(page)], seconds=3000)
            if not used.finished or used.status != 1 or not page.exists():
                raise RuntimeError(f"{case.name}, {way}: check ended with {used.status}")
            found[way] = used
            size_mb = page.stat().st_size / 1e6
    alone, whole = found["alone"], found["together"]
    return {
        "alone_s": alone.cpu_s,
        "alone_ms_per_patch": 1e3 * alone.cpu_s / case.n_patches,
        "together_s": whole.cpu_s - alone.cpu_s,
        "alone_memory_mb": alone.memory_mb,
        "memory_mb": whole.memory_mb,
        "page_mb": size_mb,
    }


def main() -> None:
    """Print the figures of every case."""
    for case in TINY if "--tiny" in sys.argv[1:] else CASES:
        print(case.name, {key: round(value, 3) for key, value in run(case).items()})


if __name__ == "__main__":
    main()
