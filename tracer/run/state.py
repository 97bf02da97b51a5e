"""What of a run is done: a digest per step of all that its result depends on."""

import hashlib
import json
from pathlib import Path
from typing import Any

from tracer.atomic import write_json
from tracer.run.plan import Step

STATE = "run.json"
_BY_HAND = ("mask.tif",)
_ENGINE = ("--workers", "--threads", "--dask")  # options that change who does the work, not what


class RunState:
    """Which steps of a run are done, kept in one file that is replaced atomically.

    Parameters
    ----------
    out : Path
        Folder of the run.
    """

    def __init__(self, out: Path) -> None:
        self._path = out / STATE
        self.steps: dict[str, dict[str, Any]] = {}
        if self._path.exists():
            self.steps = json.loads(self._path.read_text(encoding="utf-8"))["steps"]

    def digest(self, step: Step, inputs: dict[str, str]) -> str:
        """Return what identifies the result of a step.

        Parameters
        ----------
        step : Step
            The step.
        inputs : dict
            Identity of every volume of the command line, by its path.

        Returns
        -------
        str
            Changes with the command line (but for who does the work), the parameter files that
            it names, the volumes, the results it reads, and masks and tags made by hand.
        """
        words = list(step.words)
        for option in _ENGINE:
            if option in words:
                at = words.index(option)
                del words[at : at + 2]
        parts: list[Any] = [words]
        for word in words:
            path = Path(word)
            if word in inputs:
                parts.append(inputs[word])
            elif path.suffix == ".json" and path.is_file():
                parts.append(path.read_text(encoding="utf-8"))
        parts += [self.steps.get(name, {}).get("digest") for name in step.needs]
        if step.by_hand is not None:
            parts.append(annotations(step.by_hand))
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]

    def is_done(self, step: Step, digest: str) -> bool:
        """Return whether a step has this result already.

        Parameters
        ----------
        step : Step
            The step.
        digest : str
            Of what it depends on now.

        Returns
        -------
        bool
            True where the same was finished and is still there.
        """
        known = self.steps.get(step.name, {})
        return known.get("digest") == digest and step.writes.exists()

    def is_begun(self, step: Step, digest: str) -> bool:
        """Return whether this very step was begun before and interrupted.

        Parameters
        ----------
        step : Step
            The step.
        digest : str
            Of what it depends on now.

        Returns
        -------
        bool
            True where what it left can be gone on from.
        """
        return bool(self.steps.get(step.name, {}).get("begun") == digest)

    def begin(self, step: Step, digest: str) -> None:
        """Record that a step is at work; its earlier result counts no more.

        Parameters
        ----------
        step : Step
            The step.
        digest : str
            Of what it depends on.
        """
        self.steps[step.name] = {"begun": digest}
        self._write()

    def finish(self, step: Step, digest: str, **facts: Any) -> None:
        """Record that a step is done.

        Parameters
        ----------
        step : Step
            The step.
        digest : str
            Of what it depended on.
        **facts : object
            What to keep: seconds, status.
        """
        self.steps[step.name] = {"digest": digest, **facts}
        self._write()

    def _write(self) -> None:
        write_json(self._path, {"format": "tracer-run", "steps": self.steps})


def annotations(paths: Path) -> list[list[str]]:
    """Return what people have said of the surfaces of a collection: names, tags, masks.

    Parameters
    ----------
    paths : Path
        The collection.

    Returns
    -------
    list of list of str
        A line per surface that has a tag or a mask.
    """
    found = []
    for meta in sorted(paths.glob("*/meta.json")):
        tags = json.loads(meta.read_text(encoding="utf-8")).get("tags")
        masks = [
            hashlib.sha256((meta.parent / name).read_bytes()).hexdigest()
            for name in _BY_HAND
            if (meta.parent / name).exists()
        ]
        if tags or masks:
            found.append([meta.parent.name, *sorted(tags or ()), *masks])
    return found


def files_identity(path: Path) -> str:
    """Return what identifies a file, or the files of a folder, without reading them.

    Parameters
    ----------
    path : Path
        File or folder.

    Returns
    -------
    str
        Changes with names, sizes and times.
    """
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    facts = [
        (str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns)
        for file in files
        if file.is_file()
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
