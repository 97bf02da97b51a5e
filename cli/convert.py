"""`tracer convert`: surfaces in other shapes."""

from pathlib import Path

import click

from tracer.cli.console import summary
from tracer.errors import ParamsError

_PATH = click.Path(path_type=Path)


@click.group()
def convert() -> None:
    """Turn surfaces into meshes, labels and other grids, and back."""


@convert.command(
    "to-mesh",
    epilog="\b\nExamples:\n"
    "  tracer convert to-mesh trace trace.obj\n"
    "  tracer convert to-mesh trace trace.ply --every 4\n"
    "  tracer convert to-mesh trace trace.ply --triangles 20000",
)
@click.argument("surface", type=_PATH)
@click.argument("file", type=_PATH)
@click.option(
    "--every", type=click.IntRange(min=1), default=1, help="Keep every so many rows and columns."
)
@click.option(
    "--triangles",
    type=click.IntRange(min=1),
    help="Keep about so many, where the surface bends; needs Open3D.",
)
def to_mesh(surface: Path, file: Path, every: int, triangles: int | None) -> None:
    """Write SURFACE as OBJ or PLY with texture coordinates and normals."""
    from tracer.convert.mesh import mesh_of, simplified, write_mesh
    from tracer.surface import Surface

    loaded = Surface.load(surface, channels=())
    mesh = simplified(loaded, triangles) if triangles else mesh_of(loaded, every=every)
    write_mesh(file, mesh)
    summary(f"{file}: {len(mesh.points_xyz)} vertices, {len(mesh.triangles)} triangles")


@convert.command(
    "from-mesh", epilog="\b\nExample:\n  tracer convert from-mesh trace.obj trace --step 20"
)
@click.argument("file", type=_PATH)
@click.argument("out", type=_PATH)
@click.option(
    "--step",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    help="Voxels between vertices.  [default: 20]",
)
def from_mesh(file: Path, out: Path, step: float) -> None:
    """Make the surface OUT of an OBJ or PLY mesh with texture coordinates."""
    from tracer.convert.mesh import read_mesh, surface_of
    from tracer.provenance import provenance

    meta = provenance("tracer convert from-mesh", {"step": step}, extra={"mesh": str(file)})
    surface = surface_of(read_mesh(file), step, meta)
    saved = surface.save(out)
    summary(f"{saved}: {surface.shape[0]} x {surface.shape[1]} vertices")


@convert.command(
    epilog="\b\nExample:\n  tracer convert crop trace part --rows 0:200 --cols 1000:2500"
)
@click.argument("surface", type=_PATH)
@click.argument("out", type=_PATH)
@click.option("--rows", default=":", help="a:b")
@click.option("--cols", default=":", help="a:b")
def crop(surface: Path, out: Path, rows: str, cols: str) -> None:
    """Write a part of SURFACE as OUT."""
    from tracer.convert.grid import crop as crop_surface
    from tracer.surface import Surface

    saved = crop_surface(Surface.load(surface), _range(rows), _range(cols)).save(out)
    summary(f"wrote {saved}")


@convert.command(epilog="\b\nExample:\n  tracer convert mirror trace mirrored --axis cols")
@click.argument("surface", type=_PATH)
@click.argument("out", type=_PATH)
@click.option(
    "--axis",
    type=click.Choice(["cols", "rows"]),
    default="cols",
    help="What is reversed.  [default: cols]",
)
def mirror(surface: Path, out: Path, axis: str) -> None:
    """Write SURFACE with its columns or rows in the other order; its normals turn over."""
    from tracer.convert.grid import mirror as mirror_surface
    from tracer.surface import Surface

    saved = mirror_surface(Surface.load(surface), axis).save(out)
    summary(f"wrote {saved}")


@convert.command(epilog="\b\nExample:\n  tracer convert resample trace coarse --step 40")
@click.argument("surface", type=_PATH)
@click.argument("out", type=_PATH)
@click.option(
    "--step",
    type=click.FloatRange(min=0, min_open=True),
    required=True,
    help="Voxels between vertices.",
)
def resample(surface: Path, out: Path, step: float) -> None:
    """Write SURFACE at another step."""
    from tracer.convert.grid import resample as resample_surface
    from tracer.surface import Surface

    saved = resample_surface(Surface.load(surface), step).save(out)
    summary(f"wrote {saved}")


@convert.command(epilog="\b\nExample:\n  tracer convert rasterise paths labels.zarr --like ct.zarr")
@click.argument("paths", nargs=-1, required=True, type=_PATH)
@click.argument("out", type=_PATH)
@click.option("--like", required=True, help="Volume whose shape and voxel size OUT gets.")
@click.option(
    "--half-width",
    type=click.FloatRange(min=0.5),
    default=2.0,
    help="Half the thickness of the band, voxels.  [default: 2]",
)
def rasterise(paths: tuple[Path, ...], out: Path, like: str, half_width: float) -> None:
    """Paint bands around the surfaces in PATHS into the label volume OUT."""
    from tracer.convert.grid import rasterise as paint
    from tracer.score import find_surfaces
    from tracer.surface import Surface
    from tracer.volume import Volume

    surfaces = [Surface.load(path, channels=()) for path in find_surfaces(paths)]
    blocks, voxels = paint(surfaces, Volume.open(like), out, half_width)
    summary(f"{out}: {voxels} voxels in {blocks} blocks, from {len(surfaces)} surfaces")


@convert.command(
    "merge-masks",
    epilog="\b\nExample:\n  tracer convert merge-masks trace first.png second.tif --mode all",
)
@click.argument("surface", type=_PATH)
@click.argument("images", nargs=-1, required=True, type=_PATH)
@click.option(
    "--mode",
    type=click.Choice(["all", "any"]),
    default="all",
    help="Keep what all masks keep, or any of them.  [default: all]",
)
def merge_masks(surface: Path, images: tuple[Path, ...], mode: str) -> None:
    """Write several IMAGES as the one mask.tif of SURFACE."""
    from tracer.mask import merge_masks as merge

    summary(merge(surface, images, keep=mode).summary())


def _range(text: str) -> slice:
    """Return a range a:b as a slice."""
    parts = text.split(":")
    try:
        if len(parts) != 2:
            raise ValueError(text)
        low, high = (int(part) if part.strip() else None for part in parts)
    except ValueError as error:
        raise ParamsError(f"'{text}' is not a range; give a:b") from error
    return slice(low, high)
