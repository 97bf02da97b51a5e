"""Command line options generated from params classes, so that none is parsed and ignored."""

import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from pydantic.fields import FieldInfo

from tracer.params import Params

C = TypeVar("C", bound=Callable[..., Any])

_CLICK_TYPES: dict[Any, Any] = {
    int: click.INT,
    float: click.FLOAT,
    str: click.STRING,
}


def _option_type(annotation: Any) -> tuple[Any, bool] | None:
    """Return (click type, is it a flag) of a field, or None where it has no flat form."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        members = [a for a in typing.get_args(annotation) if a is not types.NoneType]
        return _option_type(members[0]) if len(members) == 1 else None
    if origin is typing.Literal:
        return click.Choice([str(choice) for choice in typing.get_args(annotation)]), False
    if annotation is bool:
        return click.BOOL, True
    if annotation in _CLICK_TYPES:
        return _CLICK_TYPES[annotation], False
    if isinstance(annotation, type) and annotation.__name__ == "Path":
        return click.STRING, False
    return None


def _option(name: str, field: FieldInfo) -> Callable[[C], C] | None:
    kind = _option_type(field.annotation)
    if kind is None:
        return None
    option_type, is_flag = kind
    flag = "--" + name.replace("_", "-")
    help_text = f"{field.description}  [default: {field.default}]"
    if is_flag:
        return click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=help_text)
    return click.option(flag, name, type=option_type, default=None, help=help_text)


def params_options(
    params_class: type[Params], *, skip: frozenset[str] = frozenset()
) -> Callable[[C], C]:
    """Return a decorator that adds one option per field of a params class.

    Parameters
    ----------
    params_class : type
        Subclass of :class:`tracer.params.Params`.
    skip : frozenset of str
        Fields that the command offers in another way (lists and nested values are skipped anyway).

    Returns
    -------
    callable
        Decorator for a click command function; options not given arrive as None.
    """

    def decorate(function: C) -> C:
        for name, field in reversed(params_class.model_fields.items()):
            if name in skip:
                continue
            option = _option(name, field)
            if option is not None:
                function = option(function)
        return function

    return decorate


def given(params_class: type[Params], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given and belong to a params class.

    Parameters
    ----------
    params_class : type
        Subclass of :class:`tracer.params.Params`.
    options : mapping
        What click passed to the command.

    Returns
    -------
    dict
        Field name to value, for :meth:`tracer.params.Params.load`.
    """
    return {
        name: value
        for name, value in options.items()
        if name in params_class.model_fields and value is not None
    }
