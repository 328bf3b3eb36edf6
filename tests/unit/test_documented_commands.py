"""Commands and options that README and docs/ show exist."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from insitu.cli import command_parser
from insitu.commands import COMMANDS

_ROOT = Path(__file__).parents[2]
_PAGES = [_ROOT / "README.md", *sorted((_ROOT / "docs").rglob("*.md"))]
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")


def _shown(page: Path) -> Iterator[tuple[str, str]]:
    """Command and arguments of each "insitu COMMAND ..." in code, without quoted words and a program's own."""
    text = page.read_text()
    code = [*re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S), *re.findall(r"`([^`\n]+)`", text)]
    for line in "\n".join(code).splitlines():
        for match in re.finditer(r"(?:^|[\s;|$])insitu ([a-z]+)\b((?: [^|;#\n]*)?)", _QUOTED.sub("Q", line)):
            if not line.startswith(("insitu: ", "from insitu", "import insitu")):
                yield match[1], match[2].split(" -- ")[0]


def _options(parser: argparse.ArgumentParser) -> set[str]:
    found = set(parser._option_string_actions)
    for action in parser._actions:
        for inner in action.choices.values() if isinstance(action.choices, dict) else ():
            found |= _options(inner)
    return found


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_documented_commands_and_options_exist(page: Path) -> None:
    for command, arguments in _shown(page):
        assert command in {*COMMANDS, "help"}, f"insitu {command}{arguments}"
        if command == "trace":  # options of a script
            arguments = re.sub(r"(?<=\.bt).*?--\w+=\w+", "", arguments)
        known = _options(command_parser(command))
        for option in re.findall(r"(?<=\s)(--?[a-zA-Z][\w-]*)", arguments):
            assert option in known or _bundle(option) <= known, f"insitu {command}: {option}"


@pytest.mark.parametrize("page", [page for page in _PAGES if page.stem in COMMANDS], ids=lambda page: page.name)
def test_options_in_the_tables_of_a_command_exist(page: Path) -> None:
    rows = re.findall(r"^\| (`-.*?) \|", page.read_text(), re.M)
    named = {option for row in rows for option in re.findall(r"(?:`|, )(-[a-zA-Z]|--[a-z][\w-]+)", row)}
    assert named <= _options(command_parser(page.stem))


def _bundle(option: str) -> set[str]:
    """-lv as -l and -v."""
    return {f"-{letter}" for letter in option[1:]} if not option.startswith("--") else {option}


def test_the_pages_are_searched_for_commands() -> None:
    assert sum(len(list(_shown(page))) for page in _PAGES) > 100
