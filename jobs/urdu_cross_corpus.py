"""Cross-corpus validation as in Talpur et al. (arXiv 2510.26823), for Urdu and any other corpora: is a score the speakers' or the voice's?

eGeMAPS, ComParE or plain statistics with a logistic regression or a small network; within a corpus over random folds and over whole
speakers, on corpora that were never heard, and with all other corpora for training (study/cross_corpus.py). One row a cell is added to
--into as it is finished; the same command goes on where it stopped, and another recipe or other rows want another --into (rows of before
recipes were noted, such as those of results/urdu_cross_corpus.jsonl, are only shown). `--page`
writes tables from the rows there are.

    python -m jobs.urdu_cross_corpus urdu.parquet emodb.parquet cremad.parquet --into cells.jsonl
    python -m jobs.urdu_cross_corpus --into results/urdu_cross_corpus.jsonl --page docs/cross_corpus.md

opensmile comes with the extra "functionals"; its licence allows research and private use only. `--set features=plain` needs nothing.
"""

from __future__ import annotations

import json
import shlex
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from moodcast import config, lines
from moodcast.cluster.folder import rows_digest
from moodcast.labels import Labels
from moodcast.manifest import Utterance, read_manifests
from moodcast.study import cross_corpus
from moodcast.study.cross_corpus import Classifier, Model, Table, cells, measure, name_alone
from moodcast.study.phonetics import few
from moodcast.study.sets import Features, statistics_of
from moodcast.whole import write_whole

DATA = ("urdu", "emodb", "cremad", "ravdess", "nemo", "resd")


@dataclass(frozen=True)
class Run:
    """What is measured. most: utterances of a corpus, of whole speakers drawn by seed 0, evenly over classes. seeds: of the network."""

    labels: Labels = Labels(("angry", "happy", "neutral", "sad"))
    features: tuple[Features, ...] = ("egemaps", "compare")
    classifiers: tuple[Classifier, ...] = ("logistic", "mlp")
    most: int = 600
    seeds: int = 5


RUN = Run()


def command(
    into: Annotated[Path, typer.Option(help="JSON lines: rows are added, those that are there are not made again.")],
    manifests: Annotated[list[Path] | None, typer.Argument(help="Manifests from `moodcast prepare`.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write tables from the rows here.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="Another value of a field, as seeds=3.")] = None,
) -> None:
    """Measure what is missing, then write the tables."""
    run = config.replace_at(RUN, config.parse_overrides(changes or []))
    rows = lines.read(into)
    if manifests:
        study(run, read_manifests(manifests), into, rows)
    if page is not None:
        if not rows:
            raise ValueError(f"{into} holds no rows to write {page} from; name the file that does, or manifests to measure")
        page.parent.mkdir(parents=True, exist_ok=True)
        write_whole(page, cross_corpus.page(rows, head(rows, into)))
        typer.echo(f"written: {page}")


def study(run: Run, rows: Sequence[Utterance], into: Path, done: list[dict[str, Any]]) -> None:
    """Add what is missing to `done` and to the file."""
    kept = few(rows, run.labels.classes, run.most)
    recipe = recipe_of(run, kept)
    refuse_others(recipe, into, done)
    names = sorted({row.corpus for row in kept})
    if len(names) < 2:
        raise ValueError(f"cross-corpus needs two corpora or more, got {', '.join(names) or 'none with these classes'}")
    for name in names:
        if not any(row["protocol"] == "name" and row["answered"] == name for row in done):
            table = table_of(run, kept, name, np.zeros((sum(row.corpus == name for row in kept), 1)))
            keep({"protocol": "name", "answered": name, "uar": name_alone(table, len(run.labels.classes))}, recipe, into, done)
    for kind in run.features:
        missing = [cell for cell in cells(names, [kind], run.classifiers) if all(cell.key != key_of(row) for row in done)]
        if not missing:
            continue
        tables, models = {}, dict[str, Model]()
        for name in names:
            own = [row for row in kept if row.corpus == name]
            tables[name] = table_of(run, kept, name, statistics_of(own, kind))
        for cell in missing:
            row = measure(cell, tables, len(run.labels.classes), range(run.seeds), models)
            keep(row, recipe, into, done)
            typer.echo(f"{cell.key}: UAR {100 * row['uar'][0]:.1f} [{100 * row['uar'][1]:.1f}, {100 * row['uar'][2]:.1f}]")


def table_of(run: Run, rows: Sequence[Utterance], name: str, features: Any) -> Table:
    """The rows of one corpus with their features."""
    own = [row for row in rows if row.corpus == name]
    truth = np.array([run.labels.classes.index(str(run.labels.name(row))) for row in own], dtype=np.int64)
    return Table(name, features, truth, tuple(row.corpus_group for row in own))


def recipe_of(run: Run, rows: Sequence[Utterance]) -> dict[str, Any]:
    """What every row of a file must share: the settings that name no cell, and the utterances, whatever their split."""
    unsplit = [replace(row, split=None) for row in rows]
    recipe = {"labels": asdict(run.labels), "most": run.most, "seeds": run.seeds, "rows_sha256": rows_digest(unsplit)}
    return dict(json.loads(json.dumps(recipe)))


def refuse_others(recipe: dict[str, Any], into: Path, done: Sequence[dict[str, Any]]) -> None:
    """Raises ValueError where rows that are there are of another recipe, or do not say of which."""
    if differ := sorted({key for row in done for key, value in recipe.items() if row.get("recipe", {}).get(key) != value}):
        raise ValueError(f"{into} holds rows of another recipe ({', '.join(differ)} differ, or are not noted there); choose another --into")


def keep(row: dict[str, Any], recipe: dict[str, Any], into: Path, done: list[dict[str, Any]]) -> None:
    """Add a row with its recipe and the command that made it."""
    words = shlex.join(["python", "-m", "jobs.urdu_cross_corpus", *(Path(word).name for word in sys.argv[1:])])
    row = {**row, "recipe": recipe, "command": words}
    lines.add(into, row)
    done.append(row)


def head(rows: Sequence[dict[str, Any]], into: Path) -> str:
    """The words above the tables of a file's rows: of what these rows are, and of nothing else."""
    recipes = [recipe for row in rows if (recipe := shown(row))]
    name = into.name if into.is_absolute() else into.as_posix()
    dialogues = " (dialogues for resd)" if any(row["answered"] == "resd" for row in rows) else ""
    commands = " and ".join(f"`{told}`" for told in sorted({str(row["command"]) for row in rows if "command" in row}))
    sentences = [
        f"The rows in {name} were made by {commands or 'commands that they do not note'}, the tables by `python -m jobs.urdu_cross_corpus "
        f"--into {name} --page PAGE`.",
        *sorted({f"{len(told['classes'])} classes ({', '.join(told['classes'])})." for told in recipes}),
        f"Intervals are 95 % over speakers of the answered corpus{dialogues}; "
        "nothing was chosen on an answered corpus, and nothing of it was used but, where said, the mean and deviation of features of its "
        "other folds.",
        *sorted({f"At most {told['most']} utterances of a corpus." for told in recipes}),
    ]
    return "# Cross-corpus validation\n\n" + textwrap.fill(" ".join(sentences), 140, break_long_words=False, break_on_hyphens=False)


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Classes and most utterances of a row: by the recipe that it notes, else by the command that made it; empty where it has neither."""
    if "recipe" in row:
        return {"classes": row["recipe"]["labels"]["classes"], "most": row["recipe"]["most"]}
    if "command" not in row:
        return {}
    words = shlex.split(str(row["command"]))
    run = config.replace_at(RUN, config.parse_overrides([change for word, change in pairwise(words) if word == "--set"]))
    return {"classes": list(run.labels.classes), "most": run.most}


def key_of(row: dict[str, Any]) -> str:
    """As `Cell.key`."""
    return "/".join(str(row.get(name)) for name in ("protocol", "trained", "answered", "features", "classifier", "normalise"))


if __name__ == "__main__":
    try:
        typer.run(command)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
