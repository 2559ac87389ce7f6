"""Pages tell no command that does not exist: verbs, options, jobs and fields are those of the code; links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from moodcast import config
from moodcast.cli import app
from moodcast.cli.words import find_run, job_names

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name != "log.md")]  # what was, stays
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
TYPED = re.compile(r"([A-Z_]+=\S+ )*moodcast ")
INLINE = re.compile(r"`(moodcast [^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
VERBS: Any = typer.main.get_command(app)


def commands(text: str) -> list[list[str]]:
    """Every `moodcast ...` of a page, in blocks and in sentences, as words; without what is set before it and what is said behind it."""
    lines = [line for block in FENCE.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    found = []
    for line in [*lines, *INLINE.findall(FENCE.sub("", text).replace("\n", " "))]:
        if typed := TYPED.match(line):
            found.append(shlex.split(line[typed.end() :], comments=True))
    return found


def wrong(words: list[str]) -> list[str]:
    """What of a command does not exist."""
    verb, rest = VERBS, words
    while hasattr(verb, "commands") and rest[0] not in ("--help", "--version"):
        if rest[0] in verb.commands:
            verb, rest = verb.commands[rest[0]], rest[1:]
        elif verb.name == "tune":
            verb = verb.commands["search"]  # the word that may be left out
        else:
            return rest[:1]
    options = {name for parameter in verb.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    if rest and rest[0] in job_names():
        fields = [word for word in rest if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+=\S+", word)]
        config.replace_at(find_run(rest[0]), config.parse_overrides(fields))  # raises ValueError for a field that is not there
    return [word for word in rest if word.startswith("-") and word.partition("=")[0] not in options]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_name_verbs_options_and_fields_that_exist(page: Path) -> None:
    told = commands(page.read_text(encoding="utf-8"))
    assert {" ".join(words): bad for words in told if (bad := wrong(words))} == {}


def test_commands_are_found_and_mistakes_in_them_seen() -> None:
    told = commands(
        "Say `moodcast train erm m.parquet --wrokers 4`.\n"
        "```sh\nHF_TOKEN=x moodcast analyse a.mp3  # quietly\nmoodcast tune erm --trial 2\n```\n"
    )
    assert told == [["analyse", "a.mp3"], ["tune", "erm", "--trial", "2"], ["train", "erm", "m.parquet", "--wrokers", "4"]]
    assert [wrong(words) for words in told] == [["analyse"], ["--trial"], ["--wrokers"]]
    with pytest.raises(ValueError, match="no field 'train.lrr'"):
        wrong(["train", "erm", "train.lrr=1"])
    assert sum(len(commands(page.read_text(encoding="utf-8"))) for page in PAGES) > 60


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    dead = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        name, _, heading = target.partition("#")
        if "://" in target:
            continue
        file = page if not name else page.parent / name
        if not file.exists() or (heading and heading not in headings(file)):
            dead.append(target)
    assert dead == []


def headings(file: Path) -> set[str]:
    """The anchors that a forge makes of a page's headings."""
    lines = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}
