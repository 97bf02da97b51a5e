"""Run all benchmarks and write their figures as one table: ``make bench``.

    python -m benchmarks [--quick] [--only NAME]

Runs the default cases of every ``bench_*.py``, each in a process of its own, and writes all figures
into ``benchmarks/results.json`` and docs/figures.md, and the table of README.md and
docs/benchmarks.md. With ``--only`` the other figures stay. ``--quick`` runs the tiniest cases and
writes into ``bench/`` only. A case without figures lacks its data. A module of benchmarks has

``CASES``, ``TINY``
    Tuples of frozen ``Case``s with a ``name``; the test-suite runs the tiny ones.
``run(case)``
    Returns a figure per name.
"""

import argparse
import importlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.figures import as_markdown
from benchmarks.readme_table import as_table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"
QUICK_OUT = ROOT / "bench"
PACKAGES = ("numpy", "numba", "scipy", "zarr", "pyceres", "tifffile", "edt")


def find_benchmarks() -> list[str]:
    """Return the names of all benchmarks, without ``bench_``."""
    return sorted(path.stem[6:] for path in Path(__file__).parent.glob("bench_*.py"))


def load_benchmark(name: str) -> ModuleType:
    """Return the module of a benchmark."""
    return importlib.import_module(f"benchmarks.bench_{name}")


def labels(cases: tuple[Any, ...]) -> list[str]:
    """Return a label per case: its name, and what tells it from others of that name."""
    found = []
    for case in cases:
        same = [asdict(other) for other in cases if other.name == case.name]
        differing = [key for key in same[0] if len({str(values[key]) for values in same}) > 1]
        found.append(", ".join([case.name, *(f"{key} {getattr(case, key)}" for key in differing)]))
    return found


def describe_machine() -> dict[str, Any]:
    """Return what the figures depend on besides the code."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **versions,
    }


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or "unknown"
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


def describe_commit() -> str:
    """Return the commit, with ``+`` where the working tree differs from it."""
    commands = (("git", "rev-parse", "--short", "HEAD"), ("git", "status", "--porcelain", "-uno"))
    try:
        commit, changes = (
            subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout
            for words in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.strip() + ("+" if changes.strip() else "")


def run_benchmark(name: str, quick: bool) -> dict[str, Any]:
    """Return the figures of all cases of a benchmark, run in another process."""
    words = [sys.executable, "-m", "benchmarks", "--child", name, *(["--quick"] if quick else [])]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        done = subprocess.run([*words, "--into", str(path)], cwd=ROOT, check=False)
        cases = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {
        "commit": describe_commit(),
        "date": datetime.now(tz=UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "seconds": round(time.monotonic() - started, 1),
        "finished": done.returncode == 0,
        "cases": cases,
    }


def _run_child(name: str, quick: bool, into: Path) -> None:
    """Write the figures of a benchmark, after each case."""
    module = load_benchmark(name)
    cases = module.TINY if quick else module.CASES
    figures: dict[str, Any] = {}
    for case, label in zip(cases, labels(cases), strict=True):
        figures[label] = {key: _plain(value) for key, value in module.run(case).items()}
        into.write_text(json.dumps(figures), encoding="utf-8")


def _plain(value: Any) -> float | int | str:
    if isinstance(value, str | int):
        return value
    return float(value)


def with_block(text: str, name: str, content: str) -> str:
    """Return a document with what stands between its marks for a block replaced."""
    block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    return block.sub(lambda match: match[1] + content + match[2], text)


def documents(results: dict[str, Any]) -> dict[Path, str]:
    """Return the documents that show figures, filled with these."""
    docs = ROOT / "docs"
    blocks = {
        ROOT / "README.md": as_table(results),
        docs / "benchmarks.md": as_table(results, scripts="../benchmarks"),
        docs / "figures.md": as_markdown(results),
    }
    return {
        path: with_block(path.read_text(encoding="utf-8"), "bench", block)
        for path, block in blocks.items()
    }


def write_results(results: dict[str, Any], *, quick: bool) -> None:
    """Write the figures as JSON and as tables."""
    text = json.dumps(results, indent=2) + "\n"
    if quick:
        QUICK_OUT.mkdir(exist_ok=True)
        (QUICK_OUT / "results.json").write_text(text, encoding="utf-8")
        (QUICK_OUT / "results.md").write_text(as_markdown(results), encoding="utf-8")
        return
    RESULTS.write_text(text, encoding="utf-8")
    for path, filled in documents(results).items():
        path.write_text(filled, encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Run benchmarks; return 1 where one did not finish."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Run benchmarks.")
    parser.add_argument("--only", choices=find_benchmarks(), help="Run one benchmark.")
    parser.add_argument("--quick", action="store_true", help="Run the tiniest cases.")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        _run_child(options.child, options.quick, options.into)
        return 0
    results: dict[str, Any] = {"machine": describe_machine(), "benchmarks": {}}
    path = QUICK_OUT / "results.json" if options.quick else RESULTS
    if options.only and path.exists():
        results["benchmarks"] = json.loads(path.read_text(encoding="utf-8"))["benchmarks"]
    for name in [options.only] if options.only else find_benchmarks():
        print(f"{name} ...", flush=True)
        results["benchmarks"][name] = run_benchmark(name, options.quick)
        write_results(results, quick=options.quick)
    print("\n" + as_markdown(results))
    return 0 if all(entry["finished"] for entry in results["benchmarks"].values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
