"""`tracer info`: what lies at a path."""

import json

import click

from tracer.cli.console import summary


@click.command(epilog="\b\nExample:\n  tracer info scroll/prediction.zarr --json")
@click.argument("path")
@click.option("--name", help="Volume of a .volpkg, by name or uuid.")
@click.option("--json", "as_json", is_flag=True, help="Print everything known as JSON.")
def info(path: str, name: str | None, as_json: bool) -> None:
    """Say what a volume, volume package, collection or surface is.

    PATH may also be the URL of a volume. A volume without meta.json is described as well; what it
    lacks is said.
    """
    from tracer.info import describe

    found = describe(path, name=name)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2, allow_nan=False, ensure_ascii=False))
    else:
        summary(found.summary())
