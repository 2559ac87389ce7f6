"""The verbs about recordings and their labels: `prepare` makes a manifest, `audit` says what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moodcast.cli.words import progress, say

if TYPE_CHECKING:
    from moodcast.corpora import Rule
    from moodcast.manifest import Utterance


def prepare(
    corpus: Annotated[
        str, typer.Argument(metavar="CORPUS", help='cremad, emodb, resd, msp_podcast, folder, ...; "manifest" splits one of your own.')
    ],
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The folder in which the corpus lies, or your manifest or table.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The manifest to write: .parquet, .jsonl or .csv.")],
    settings: Annotated[list[str] | None, typer.Argument(metavar="OPTION=VALUE", help="Options of the corpus: docs/corpora.md.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed puts other speakers on the test side.")] = 0,
    folds: Annotated[int, typer.Option(min=0, help="Write this many manifests, each with another fold as its test side.")] = 0,
    as_is: Annotated[bool, typer.Option("--as-is", help="Keep known defects of the corpus instead of dropping and mending them.")] = False,
    resplit: Annotated[bool, typer.Option("--resplit", help="Split by speaker even where the owner gives a split.")] = False,
) -> None:
    """Make a manifest of a corpus, split so that no speaker (or dialogue) stands on two sides."""
    from dataclasses import replace

    from moodcast import corpora, manifest
    from moodcast.cli import show
    from moodcast.config import parse_overrides
    from moodcast.corpora.csv import unread

    options = parse_overrides(settings or [])
    if corpus != "manifest" and not folds and out.is_file() and source.exists() and out.samefile(source):
        raise ValueError(f"{out} is the table that is read, and a manifest keeps only some of its columns; choose another name for --out")
    rules: list[Rule] = []
    if corpus == "manifest":
        if options:
            raise ValueError(f"a manifest of your own takes no options, got {', '.join(options)}")
        rows = manifest.read_manifest(source)
    else:
        rows = corpora.read(corpus, source, options, unpack=out.with_name(f"{out.stem}_audio"))
        if not as_is:
            rows, rules = corpora.clean(corpus, rows)
        if corpus == "csv" and (left := unread(source, options)):
            say(f"columns that were not read: {', '.join(left)}; FIELD=COLUMN says what one holds, such as start_s=COLUMN", "note")
    if folds:
        written = manifest_of_folds(rows, folds, seed, out)
        rows = [replace(row, split=None) for row in rows]  # the table is of them all: each file has sides of its own
    else:
        bare = [row.id for row in rows if row.split is None]
        owner = corpus != "manifest" and not resplit and len(bare) < len(rows)
        if owner and bare:
            raise ValueError(
                f"{len(bare)} of {len(rows)} rows have no split by the owner, the first is {bare[0]}; --resplit splits all anew"
            )
        if len(bare) < len(rows) and not owner and not resplit:
            say(f"{source} had a split; it was made anew, by speaker", "note")
        rows = rows if owner else manifest.split_by_group(rows, seed=seed)
        manifest.write_manifest(rows, out)
        written = [out]
    show.corpus(corpus, rows, show.label_source(corpus))
    say_rules(corpus, rules)
    if not folds:
        say_leaks(rows)
    say_gaps(rows)
    if strange := sorted({row.split for row in rows if row.split} - set(manifest.SPLITS)):
        say(f"{', '.join(strange)}: trained on by nobody, and scored by `moodcast evaluate --split NAME` alone", "note")
    show.written(written)


def say_rules(corpus: str, rules: Sequence[Rule]) -> None:
    """What was dropped and mended, by rule, with every id."""
    from rich.text import Text

    from moodcast.cli.words import console

    for rule in rules:
        console().print(Text(f"{corpus}: {rule.name}: {rule.does} {', '.join(rule.ids)} ({rule.why})"), soft_wrap=True)


def say_leaks(rows: Sequence[Utterance]) -> None:
    """A line on standard error where the owner's split leaks, and one for copies that audits have found: training will be refused."""
    from moodcast.audit import SAME_SOUND, leaks_among
    from moodcast.audit.finding import some
    from moodcast.cli.words import fail

    found = leaks_among(rows)
    if people := [item.detail for item in found if item.kind != SAME_SOUND]:
        fail(f"the owner's split leaks: {some(people)}. train and evaluate will refuse it; --resplit makes one that does not", "warning")
    if copies := [" and ".join(item.ids) for item in found if item.kind == SAME_SOUND]:
        mend = "keep one of each, or give both one group"
        fail(f"the same sound stands on two sides of the split: {some(copies)}. train and evaluate will refuse it; {mend}", "warning")


def say_gaps(rows: Sequence[Utterance]) -> None:
    """A line on standard error where recordings are not there, and one where a label has no speaker."""
    from moodcast.cli.words import fail

    places = {row.path: row for row in rows}
    if gone := [path for path in places if not Path(path).exists()]:
        where = "put them there, or let the table name them as they lie here (audio=FOLDER, for corpora that take it)"
        fail(f"{len(gone)} of {len(places)} recordings are not there, the first is {gone[0]}; {where}", "warning")
    labelled = [row for row in rows if row.emotion or row.votes or row.attributes]
    if nameless := [row for row in labelled if not row.speaker and not row.group]:
        kept = "each counts as a speaker of its own, and no split keeps apart what one person says"
        say(f"{len(nameless)} of {len(rows)} rows name no speaker: {kept}; speaker= of many corpora says who it is", "note")


def manifest_of_folds(rows: Sequence[Utterance], folds: int, seed: int, out: Path) -> list[Path]:
    """One manifest a fold, `out` with .fold0 and so on in its name: fold k tests, fold k + 1 is dev, the rest trains."""
    from moodcast import manifest

    written = []
    for test, split in enumerate(manifest.fold_splits(rows, folds, seed)):
        written.append(out.with_name(f"{out.stem}.fold{test}{out.suffix}"))
        manifest.write_manifest(split, written[-1])
    return written


def audit(
    words: Annotated[list[str], typer.Argument(metavar="MANIFEST", help="Manifests; they are audited together, leaks between them too.")],
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON (into the .json file you name, if you name one).")] = False,
    html: Annotated[bool, typer.Option("--html", help="Write a page: the .html file you name, else audit.html.")] = False,
    classes: Annotated[
        str | None, typer.Option(metavar="NAMES", help="The labels that may occur, by commas; default: the common class names.")
    ] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Decoding processes; default one a core.")] = None,
) -> None:
    """Hear every recording of a manifest and say what is wrong: leaks, giveaways, duplicates, silence, damage. Exit 1 on errors."""
    from json import dumps

    from moodcast.audit import audit as examine
    from moodcast.audit import page
    from moodcast.cli import show
    from moodcast.labels import CLASSES
    from moodcast.manifest import read_manifests

    targets = {suffix: [Path(word) for word in words if Path(word).suffix == suffix] for suffix in (".json", ".html")}
    manifests = [Path(word) for word in words if Path(word).suffix not in targets]
    for suffix, asked in ((".json", json), (".html", html)):
        if targets[suffix] and not asked:
            raise ValueError(f"{targets[suffix][0]} is no manifest; to write the audit into it, say --{suffix[1:]} {targets[suffix][0]}")
    if not manifests:
        raise ValueError("no manifest to audit; `moodcast prepare CORPUS FOLDER --out FILE` writes one")
    rows = read_manifests(manifests)
    known = tuple(name.strip() for name in classes.split(",")) if classes else CLASSES
    with progress("listening", total=len(rows), hidden=json) as advance:
        found = examine(rows, known, processes=processes, progress=advance)
    text = dumps(found.to_dict(), indent=1, ensure_ascii=False)
    written = [show.save(path, text + "\n") for path in targets[".json"]]
    if html:
        told = page.render(found, ", ".join(path.stem for path in manifests))
        written += [show.save(path, told) for path in targets[".html"] or [Path("audit.html")]]
    if json and not targets[".json"]:
        print(text)
    else:
        show.audit(found)
        show.written(written)
    if not found.ok:
        raise typer.Exit(1)
