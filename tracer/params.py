"""Base of all stage parameters: typed, immutable, read from VC3D's JSON files, checked before work.

A params class is a frozen pydantic model whose field names are VC3D's key names. Its field
descriptions are the only documentation of a parameter: the command line options, their help and
the docs are generated from them.
"""

import difflib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import pydantic

from tracer.errors import ParamsError, TracerWarning


class Params(pydantic.BaseModel):
    """Typed, immutable parameters of one stage.

    Attributes
    ----------
    ignored_keys : frozenset of str
        VC3D's keys that are accepted with a warning and have no effect here.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    ignored_keys: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], *, where: str = "params") -> Self:
        """Return validated parameters.

        Parameters
        ----------
        values : mapping
            Key to value, VC3D's names.
        where : str
            What to call the source in messages.

        Returns
        -------
        Params
            An instance of the class it is called on.

        Raises
        ------
        ParamsError
            If a key is unknown (the nearest known key is named) or a value is unusable.
        """
        known = set(cls.model_fields)
        accepted: dict[str, Any] = {}
        for key, value in values.items():
            if key in known:
                accepted[key] = value
            elif key in cls.ignored_keys:
                warnings.warn(
                    f"{where}: key '{key}' has no effect here and is ignored",
                    TracerWarning,
                    stacklevel=2,
                )
            else:
                near = difflib.get_close_matches(key, known | cls.ignored_keys, n=1, cutoff=0.0)
                raise ParamsError(f"{where}: unknown key '{key}'; did you mean '{near[0]}'?")
        try:
            return cls(**accepted)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "params"
            message = first["msg"].removeprefix("Value error, ")
            raise ParamsError(f"{where}: {key} = {first['input']!r}: {message}") from error

    @classmethod
    def load(cls, path: Path | None, overrides: Mapping[str, Any] | None = None) -> Self:
        """Return parameters from a JSON file, overridden key by key.

        Parameters
        ----------
        path : Path or None
            JSON object with VC3D's key names; None for defaults only.
        overrides : mapping, optional
            Values that win over the file, as given on the command line.

        Returns
        -------
        Params
            An instance of the class it is called on.

        Raises
        ------
        ParamsError
            If the file is missing, not a JSON object, or holds unknown or unusable values.
        """
        values: dict[str, Any] = {}
        if path is not None:
            try:
                read = json.loads(path.read_text(encoding="utf-8"))
            except OSError as error:
                raise ParamsError(f"{path}: cannot read params file ({error.strerror})") from error
            except ValueError as error:
                raise ParamsError(f"{path}: not valid JSON ({error}); fix the file") from error
            if not isinstance(read, dict):
                raise ParamsError(f"{path}: not a JSON object of parameters; fix the file")
            values.update(read)
        values.update(overrides or {})
        return cls.from_mapping(values, where=str(path) if path is not None else "params")

    def effective(self) -> dict[str, Any]:
        """Return every parameter with its effective value, ready for JSON.

        Returns
        -------
        dict
            Key to JSON-serialisable value.
        """
        return self.model_dump(mode="json")
