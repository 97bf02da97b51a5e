"""Check command lines of help texts and docs against the commands, without running them."""

import re
import shlex

import click

from tracer.cli.main import tracer


def tracer_lines(text):
    """Return the `tracer …` command lines of a text, one list of words each."""
    joined = re.sub(r"\\\n\s*", "", text)
    found = []
    for line in joined.splitlines():
        match = re.match(r"\s*(?:\$ |.*\| xargs .*?)?(tracer [a-z-].*)$", line)
        if match:
            words = shlex.split(match[1], comments=True)
            stop = next((i for i, word in enumerate(words) if word in (">", "|", "&&")), None)
            found.append(words[:stop])
    return found


def check(words):
    """Parse a command line; click raises where the command, an option or a value is wrong."""
    command, context = tracer, click.Context(tracer, info_name="tracer")
    rest = list(words[1:])
    while isinstance(command, click.Group):
        while rest and rest[0] in ("-q", "-v", "--debug"):
            rest.pop(0)
        if hasattr(command, "default_command") and rest[0] not in command.commands:
            rest.insert(0, command.default_command(rest))
        name = rest.pop(0)
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"no command {name}")
        command, context = found, click.Context(found, info_name=name, parent=context)
    command.make_context(context.info_name, rest, parent=context.parent)
