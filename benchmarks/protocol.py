"""Evaluate the whole way on a volume: seeds, expansions, traces both ways, windings, one table.

    python -m benchmarks.protocol OUT PREDICTION [--ct CT] [--truth PHANTOM] [--seeds N] …
    python -m benchmarks.protocol OUT --phantom normal --size 384

Grows ``--seeds`` patches from random points of the prediction and ``--expansions`` around them (or
takes the collection ``--paths``), checks them, traces from the best ``--traces`` patches towards
both ends of the scroll, and finds the windings. Then every trace is measured: against the truth
where there is one, and by what needs none. ``--also`` adds surfaces made elsewhere, VC3D's for
instance, to the table. OUT/protocol.json holds everything, OUT/protocol.md the ranked table; run it
again to go on after an interruption: steps that have ended are not repeated.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.protocol_figures import as_markdown, collection_figures, ranked, surface_figures
from benchmarks.usage import Usage, measure
from tracer.atomic import write_json
from tracer.collection import PatchCollection
from tracer.volume import Volume

LONGEST_S = 7 * 86400.0
ENDS = (("forward", ()), ("backward", ("--flip-x",)))


@dataclass(slots=True)
class Protocol:
    """The steps of one evaluation, and which of them have ended.

    Attributes
    ----------
    out : Path
        Folder of the evaluation.
    chosen : argparse.Namespace
        What the command line asked for.
    steps : dict
        What each step that has ended was and took, by its name.
    """

    out: Path
    chosen: argparse.Namespace
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        if self._file.exists():
            self.steps = json.loads(self._file.read_text(encoding="utf-8"))

    @property
    def _file(self) -> Path:
        return self.out / "steps.json"

    def tracer(self, name: str, *arguments: object, again: Sequence[object] = ()) -> int:
        """Run a tracer command unless this step has ended; return its status.

        ``again`` replaces the arguments where the step was interrupted, so that it goes on.
        """
        words = [str(argument) for argument in arguments]
        done = self.steps.get(name)
        if done is not None and done["words"] == words:
            print(f"{name}: done before", flush=True)
            return int(done["status"])
        typed = [str(argument) for argument in again] or words
        print(f"$ tracer {' '.join(typed)}", flush=True)
        used = measure([sys.executable, "-m", "tracer.cli.main", "-q", *typed], LONGEST_S)
        if used.status < 0 or used.status > 2:
            raise RuntimeError(f"{name}: tracer ended with {used.status}; run it again to go on")
        self.finish(name, words, used)
        return used.status

    def finish(self, name: str, words: Sequence[str], used: Usage) -> None:
        """Write down that a step has ended."""
        cost = {"cpu_s": round(used.cpu_s, 2), "memory_mb": round(used.memory_mb, 1)}
        self.steps[name] = {"words": list(words), "status": used.status, **cost}
        write_json(self._file, self.steps)

    def volumes(self) -> tuple[Path | str, Path | str | None, Path | None]:
        """Return prediction, scan and truth; a phantom is made where one is asked for."""
        chosen = self.chosen
        if chosen.phantom is None:
            return chosen.prediction, chosen.ct, chosen.truth
        scroll = self.out / "scroll"
        if "phantom" not in self.steps:
            shutil.rmtree(scroll, ignore_errors=True)
        self.tracer("phantom", "phantom", scroll, "--size", chosen.size, "--level", chosen.phantom)
        return scroll / "prediction.zarr", scroll / "ct.zarr", scroll

    def patches(self, prediction: Path | str) -> Path:
        """Return the collection, grown where none is given."""
        chosen = self.chosen
        if chosen.paths is not None:
            return Path(chosen.paths)
        paths, params = self.out / "paths", self.out / "seed.json"
        given = json.loads(chosen.seed_params.read_text()) if chosen.seed_params else {}
        write_json(params, {"cache_root": str(self.out / "cache"), **given})
        already = len(PatchCollection.open(paths).names()) if paths.is_dir() else 0
        for name, wanted, before in (
            ("seed", chosen.seeds, 0),
            ("expand", chosen.expansions, min(chosen.seeds, already)),
        ):
            common = (name, prediction, paths, params, "--workers", chosen.workers)
            seed = chosen.rng_seed
            words = (*common, "--count", wanted, "--rng-seed", seed)
            left = wanted - (already - before)
            again = (*common, "--count", max(left, 1), "--rng-seed", seed + already)
            self.tracer(name, *words, again=again if already > before else ())
            already = len(PatchCollection.open(paths).names())
        return paths

    def verdicts(self, paths: Path, prediction: Path | str) -> dict[str, Any]:
        """Return what `tracer check` says of every patch."""
        page = self.out / "patches.html"
        report = self.out / "patches.json"
        words = ["check", str(paths), "--prediction", str(prediction)]
        done = self.steps.get("check")
        if done is None or done["words"] != words or not report.exists():
            command = [sys.executable, "-m", "tracer.cli.main", "-q", *words, "--html", str(page)]
            command += ["--workers", str(self.chosen.workers), "--json"]
            print(f"$ tracer {' '.join(words)}", flush=True)
            with report.open("w", encoding="utf-8") as stream:
                used = measure(command, LONGEST_S, stdout=stream)
            if used.status not in (0, 1):
                raise RuntimeError(f"check: tracer ended with {used.status}")
            self.finish("check", words, used)
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return found

    def traces(self, paths: Path, prediction: Path | str, seeds: Sequence[str]) -> list[Path]:
        """Return the traces from some patches towards both ends."""
        params = self.out / "trace.json"
        given = json.loads(self.chosen.trace_params.read_text()) if self.chosen.trace_params else {}
        write_json(params, {"both_ways": False, **given})
        found = []
        for seed in seeds:
            for end, flip in ENDS:
                name = f"trace {seed} {end}"
                into = self.out / "traces" / seed / end
                if name not in self.steps:
                    shutil.rmtree(into, ignore_errors=True)
                patch = paths / seed
                self.tracer(name, "trace", prediction, paths, into, params, patch, *flip)
                made = sorted(into.glob("auto_trace_*"))
                found += made
                for path in made:
                    self.tracer(f"winding {seed} {end}", "winding", path)
        return found


def best_patches(paths: Path, report: dict[str, Any], count: int) -> list[str]:
    """Return the patches to trace from: sound and large, and as far as possible none over another.

    Parameters
    ----------
    paths : Path
        The collection.
    report : dict
        What `tracer check` says of it.
    count : int
        How many.

    Returns
    -------
    list of str
        Names, the best first.
    """
    rank = {"pass": 0, "warn": 0, "fail": 1}
    order = sorted(
        (one for one in report["checked"] if one["figures"]),
        key=lambda one: (rank[one["verdict"]], -one["figures"]["area_vx2"], one["name"]),
    )
    collection = PatchCollection.open(paths)
    chosen: list[str] = []
    beside: list[str] = []
    for one in order:
        name = one["name"]
        overlaps = name in {other for seed in chosen for other in collection.overlaps(seed)}
        (beside if overlaps or rank[one["verdict"]] else chosen).append(name)
        if len(chosen) == count:
            return chosen
    return (chosen + beside)[:count]


def evaluate(chosen: argparse.Namespace) -> dict[str, Any]:
    """Run the protocol as far as it has not run yet, measure, and write the report."""
    out = Path(chosen.out)
    protocol = Protocol(out, chosen)
    prediction, ct, truth = protocol.volumes()
    volume = Volume.open(prediction)
    paths = protocol.patches(prediction)
    report = protocol.verdicts(paths, prediction)
    seeds = best_patches(paths, report, chosen.traces)
    made = protocol.traces(paths, prediction, seeds)
    scan = str(ct) if ct is not None else None
    rows = []
    for path in [*made, *map(Path, chosen.also)]:
        figures = surface_figures(path, volume, ct=scan, truth=truth)
        seed, end = path.parts[-3:-1] if path in made else (str(path), "")
        name = f"{seed} {end}".strip()
        cost = protocol.steps.get(f"trace {name}", {})
        rows.append({"name": name, "path": str(path), "cpu_s": cost.get("cpu_s"), **figures})
    result = {
        "prediction": str(prediction),
        "voxel_size_um": volume.voxel_size_um,
        "truth": truth is not None,
        "steps": protocol.steps,
        "patches": collection_figures([paths], volume, truth) | _counts(report),
        "all traces": collection_figures(made, volume, truth) if made else {},
        "ranked": ranked(rows),
    }
    write_json(out / "protocol.json", result)
    (out / "protocol.md").write_text(as_markdown(result), encoding="utf-8")
    return result


def _counts(report: dict[str, Any]) -> dict[str, int]:
    return {verdict: report[verdict] for verdict in ("pass", "warn", "fail")}


def main(arguments: Sequence[str]) -> dict[str, Any]:
    """Evaluate as the command line says, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.protocol",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("prediction", nargs="?", help="surface prediction, path or URL")
    parser.add_argument("--ct", help="the scan: where it is 0 nothing can lie")
    parser.add_argument("--truth", type=Path, help="phantom folder or its truth.json")
    parser.add_argument("--phantom", help="make a phantom of this level instead")
    parser.add_argument("--size", type=int, default=384, help="of the phantom  [384]")
    parser.add_argument("--paths", type=Path, help="collection that is there already")
    parser.add_argument("--seeds", type=int, default=16, help="seed patches to grow  [16]")
    parser.add_argument("--expansions", type=int, default=224, help="patches to expand by  [224]")
    parser.add_argument("--traces", type=int, default=4, help="patches to trace from  [4]")
    parser.add_argument("--also", nargs="*", default=[], help="more surfaces for the table")
    parser.add_argument("--seed-params", type=Path, help="JSON of tracer seed and expand")
    parser.add_argument("--trace-params", type=Path, help="JSON of tracer trace")
    parser.add_argument("--rng-seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args(arguments)
    if (chosen.prediction is None) == (chosen.phantom is None):
        parser.error("give either PREDICTION or --phantom LEVEL")
    result = evaluate(chosen)
    print("\n" + as_markdown(result))
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
