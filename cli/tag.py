"""`tracer tag`: what a person thinks of a segment."""

from pathlib import Path

import click

from tracer.cli.console import summary

_TAGS = ("approved", "defective", "reviewed", "revisit")


@click.command(
    epilog="\b\nExamples:\n"
    "  tracer tag scroll/paths/auto_grown_20261121000834278 approved\n"
    "  tracer tag scroll/paths/auto_grown_20261121000834278 approved --remove"
)
@click.argument("segment", type=click.Path(path_type=Path))
@click.argument("tag", required=False, type=click.Choice(_TAGS))
@click.option("--remove", is_flag=True, help="Take the tag away.")
@click.option("--user", default="", help="Who says so; kept with the tag.")
def tag(segment: Path, tag: str | None, remove: bool, user: str) -> None:
    """Mark a segment as approved, defective, reviewed or to be revisited.

    Without TAG, list its tags. Defective segments are ignored by all later stages, approved ones
    are trusted.
    """
    from datetime import UTC, datetime

    from tracer.collection import locate_patch

    collection, name = locate_patch(segment)
    if tag is not None and remove:
        had = collection.remove_tag(name, tag)
        summary(f"{name}: {'no longer' if had else 'was not'} {tag}")
    elif tag is not None:
        details = {"date": datetime.now(tz=UTC).isoformat(timespec="seconds")}
        collection.set_tag(name, tag, {**details, "user": user} if user else details)
        summary(f"{name}: {tag}")
    else:
        summary(f"{name}: {', '.join(sorted(collection.tags(name))) or 'no tags'}")
