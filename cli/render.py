"""`tracer render`: flattened layers of a surface, or of a folder of surfaces."""

import contextlib
from pathlib import Path
from typing import Any

import click

from tracer.cli.console import progress_bar, summary
from tracer.cli.executor import DASK, open_executor
from tracer.cli.options import given, params_options
from tracer.errors import ParamsError, SurfaceError
from tracer.render.params import RenderParams

_POSITIONAL = ("scale", "level", "layers")


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer render scan.zarr layers/ paths/my_trace --scale 0.5 --level 1 --layers 21\n"
    "  tracer render scan.zarr layers/%02d.tif paths/my_trace 0.5 1 21\n"
    "  tracer render scan.zarr layers/ paths/my_trace --layers 65 --count-chunks"
)
@click.argument("volume")
@click.argument("out")
@click.argument("surface", type=click.Path(path_type=Path))
@click.argument("scale_level_layers", nargs=-1, metavar="[SCALE LEVEL LAYERS]")
@params_options(RenderParams)
@click.option("--name", default=None, help="Name of the volume in a .volpkg.")
@click.option("--params", "params_file", type=click.Path(path_type=Path), help="JSON params file.")
@click.option("--overwrite", is_flag=True, help="Replace a render with other parameters.")
@click.option("--count-chunks", is_flag=True, help="Only say how much would be read.")
@DASK
def render(
    volume: str,
    out: str,
    surface: Path,
    scale_level_layers: tuple[str, ...],
    name: str | None,
    params_file: Path | None,
    overwrite: bool,
    count_chunks: bool,
    dask: str | None,
    **options: Any,
) -> None:
    """Render flattened layers of SURFACE from VOLUME into OUT.

    OUT is a directory, a pattern such as OUT/%02d.tif, or OUT.zarr. SURFACE is a tifxyz
    directory, or a folder of them: each goes into a directory of its name below OUT. An
    interrupted render continues where it stopped.
    """
    overrides = {**_positional(scale_level_layers, options), **given(RenderParams, options)}
    params = RenderParams.load(params_file, overrides)
    from tracer.render import count_chunks as count
    from tracer.render import render_surface
    from tracer.surface import Surface
    from tracer.volume import Volume

    opened = Volume.open(volume, name=name)
    with open_executor(1, dask) if dask else contextlib.nullcontext() as pool:
        for path in _surfaces(surface):
            loaded = Surface.load(path, channels=())
            target = out if path == surface else _below(out, path.name)
            if count_chunks:
                summary(f"{path.name}: {count(opened, loaded, params).summary()}")
                continue
            with progress_bar(f"render {path.name}") as progress:
                result = render_surface(
                    opened,
                    loaded,
                    target,
                    params,
                    overwrite=overwrite,
                    workers=pool,
                    progress=progress,
                )
            summary(result.summary())


def _positional(values: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters given by position, as in VC3D's older renderer."""
    if len(values) > len(_POSITIONAL):
        raise ParamsError(
            f"unexpected argument '{values[3]}'; positions are VOLUME OUT SURFACE "
            "SCALE LEVEL LAYERS, everything else is an option"
        )
    named = dict(zip(_POSITIONAL, values, strict=False))
    for key in named:
        if options.get(key) is not None:
            raise ParamsError(f"{key} is given twice: as {named[key]} and as --{key}")
    return named


def _surfaces(path: Path) -> list[Path]:
    """Return the surfaces that a path means."""
    if (path / "meta.json").exists() or (path / "x.tif").exists() or not path.is_dir():
        return [path]  # also an unfinished one: loading it says so
    found = sorted(entry.parent for entry in path.glob("*/meta.json"))
    surfaces = [entry for entry in found if (entry / "x.tif").exists()]
    if not surfaces:
        raise SurfaceError(f"{path}: neither a tifxyz surface nor a folder of them; check the path")
    return surfaces


def _below(out: str, name: str) -> str:
    """Return the output of one of several surfaces."""
    path = Path(out)
    if "%" in path.name:
        return str(path.parent / name / path.name)
    if path.suffix == ".zarr":
        return str(path.with_suffix("") / f"{name}.zarr")
    return str(path / name)
