"""Entry point: a lazy group of sub-commands, one error policy and one verbosity switch for all."""

import gc
import sys
import warnings
from importlib import import_module
from typing import Any

import click

from tracer import __version__
from tracer.errors import TracerError, TracerWarning

# name: (module below tracer.cli, one-line help). Listed here, not discovered, so that
# `tracer --help` imports none of them.
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run", "Go from a scan or a prediction to rendered layers; resumable."),
    "info": ("info", "Say what a volume, collection or surface is."),
    "prepare": ("prepare", "Turn scans and blocks into an OME-Zarr volume."),
    "phantom": ("phantom", "Make a synthetic scroll with exact ground truth."),
    "predict": ("predict", "Predict the recto surface from a CT volume."),
    "seed": ("seed", "Grow patches from points on the prediction."),
    "expand": ("expand", "Grow patches around the patches of a collection."),
    "overlap": ("overlap", "Add a segment to the overlap graph of a collection."),
    "seeds-from-points": ("seeds_from_points", "Grow patches at pasted viewer coordinates."),
    "find": ("find", "List the patches through one or two points."),
    "tag": ("tag", "Mark a segment as approved, defective, reviewed, ..."),
    "mask": ("mask", "Mask out parts of a segment."),
    "unroll": ("unroll", "Lay out a whole collection as one flat surface."),
    "suspects": ("suspects", "List the sheet jumps in a collection."),
    "winding": ("winding", "Write the relative winding of surfaces; find their sheet jumps."),
    "fuse": ("fuse", "Fuse traces into one flat surface without holes."),
    "ground": ("ground", "Upsample a fused surface with the detail of its traces."),
    "flatten": ("flatten", "Put one surface on a regular, nearly isometric grid."),
    "trace": ("trace", "Grow one consensus surface over the patches of a collection."),
    "checkpoint": ("checkpoint", "Add the good part of a trace to a collection."),
    "render": ("render", "Render flattened layers of a surface."),
    "layers": ("layers", "Split, contrast and stitch rendered layers for ink models."),
    "check": ("check", "Check surfaces and collections; a verdict for each."),
    "compare": ("compare", "Compare two surfaces or collections."),
    "convert": ("convert", "Turn surfaces into meshes, labels and other grids, and back."),
    "score": ("score", "Score surfaces against a phantom's truth."),
}


class LazyGroup(click.Group):
    """A group that imports a sub-command's module only when that command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in pipeline order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the imported command, or None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        gc.disable()  # what imports allocate stays; looking for garbage in it takes 0.1 s
        try:
            module = import_module(f"tracer.cli.{COMMANDS[cmd_name][0]}")
        finally:
            gc.freeze()
            gc.enable()
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command list without importing the commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line."""
    click.echo(f"warning: {message}", err=True)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExample:\n"
    "  tracer phantom scroll --size 256 --text HELLO\n"
    "  tracer seed scroll/prediction.zarr scroll/paths --count 10 --min-area-cm 0.01\n"
    "  tracer COMMAND --help",
)
@click.version_option(__version__, prog_name="tracer")
@click.option("--debug", is_flag=True, help="Show the full traceback of an error.")
@click.option("-v", "--verbose", count=True, help="Say more; repeat for even more.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no summary; errors only.")
@click.pass_context
def tracer(ctx: click.Context, debug: bool, verbose: int, quiet: bool) -> None:
    """Virtually unwrap a carbonised papyrus roll, from CT scan to readable layers."""
    ctx.obj = {"debug": debug, "verbose": verbose, "quiet": quiet}
    warnings.simplefilter("always", TracerWarning)
    warnings.showwarning = _show_warning


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit with its status.

    Parameters
    ----------
    args : list of str, optional
        Arguments without the program name; ``sys.argv`` where omitted.
    """
    arguments = sys.argv[1:] if args is None else args
    try:
        status = tracer.main(args=arguments, prog_name="tracer", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except TracerError as error:
        if "--debug" in arguments:
            raise
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
