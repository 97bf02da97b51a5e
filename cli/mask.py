"""`tracer mask`: take parts out of a segment."""

from pathlib import Path

import click

from tracer.cli.console import summary


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer mask scroll/paths/auto_grown_20261121000834278 --template scroll/ct.zarr\n"
    "  tracer mask scroll/paths/auto_grown_20261121000834278 edited.png"
)
@click.argument("segment", type=click.Path(path_type=Path))
@click.argument("image", required=False, type=click.Path(path_type=Path))
@click.option("--template", metavar="VOLUME", help="Write a mask to edit over a picture of VOLUME.")
@click.option("--scale", type=float, default=1.0, help="Pixels per voxel.  [default: 1]")
@click.option("--level", type=click.IntRange(min=0), default=0, help="OME-Zarr level of VOLUME.")
def mask(segment: Path, image: Path | None, template: str | None, scale: float, level: int) -> None:
    """Use IMAGE as the mask of a segment, or write one to draw on.

    White keeps, black takes out; the size is that of the grid or a multiple of it. A template is
    SEGMENT/mask.tif: page 0 is the mask, page 1 the rendered surface. Edit page 0 in place, or
    save the edited mask as an image and give that.
    """
    if (image is None) == (template is None):
        raise click.UsageError("give an IMAGE, or --template VOLUME")
    from tracer.mask import write_mask, write_template

    if image is not None:
        result = write_mask(segment, image)
    else:
        from tracer.volume import Volume

        assert template is not None  # the usage check above
        result = write_template(segment, Volume.open(template), scale=scale, level=level)
    summary(result.summary())
