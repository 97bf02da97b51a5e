"""Every command has a help that ends with examples, and the examples are right."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from command_lines import check, tracer_lines

from tracer.cli.main import COMMANDS, tracer

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def all_commands():
    """Return the words of every command and sub-command."""
    found = []
    for name in COMMANDS:
        command = tracer.get_command(None, name)
        found.append((name,))
        found += [(name, inner) for inner in getattr(command, "commands", ())]
    return found


def help_of(words):
    result = CliRunner().invoke(tracer, [*words, "--help"])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_help__has_examples_that_parse(words):
    lines = tracer_lines(help_of(words).split("Example", 1)[-1])
    is_group = bool(getattr(tracer.get_command(None, words[0]), "commands", ())) and len(words) == 1
    assert lines or is_group, "no example"
    assert (
        any(tuple(line[1 : 1 + len(words)]) == words for line in lines)
        or is_group
        or (
            words in (("predict", "from-ct"), ("predict", "network"))  # names may be left out
        )
    )
    for line in lines:
        check(line)


@pytest.mark.parametrize("words", all_commands(), ids=" ".join)
def test_help__says_what_the_command_does_and_explains_every_option(words):
    text = help_of(words)
    first = text.split("\n\n")[1].strip()
    assert first.endswith((".", ":", "].")), first
    command = tracer
    for word in words:
        command = command.get_command(None, word)
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} has no help"


def test_help__lists_every_command():
    text = help_of(())
    for name, (_, summary) in COMMANDS.items():
        assert name in text
        assert summary.split()[0] in text


@pytest.mark.parametrize(
    "line",
    [
        "tracer sead a b",
        "tracer seed a b --stepsize 3",
        "tracer seed a b --count many",
        "tracer render a",
        "tracer predict clean a b --sigma 3",
    ],
)
def test_check__notices_wrong_lines(line):
    with pytest.raises(click.UsageError):
        check(tracer_lines(line)[0])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_docs__show_commands_that_parse(page):
    for line in tracer_lines(page.read_text(encoding="utf-8")):
        try:
            check(line)
        except click.UsageError as error:
            pytest.fail(f"{' '.join(line)}: {error.format_message()}")
