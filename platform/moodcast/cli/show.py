"""Tables: what each verb prints of what it found."""

from __future__ import annotations

import importlib
import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table
from rich.text import Text

from moodcast.cli.words import console, explain, fail_on
from moodcast.whole import write_whole

MOST_FINDINGS = 60
SEVERITY = {"error": "bold red", "warning": "yellow", "note": "dim"}

if TYPE_CHECKING:
    from moodcast.answer import Answer
    from moodcast.audit import Audit
    from moodcast.manifest import Utterance
    from moodcast.run import Run
    from moodcast.scores import Report
    from moodcast.study.conversation import Score as ConversationScore
    from moodcast.timeline import Timeline

SIDES = ("train", "dev", "test")
NAMES_OF_ERRORS = {
    "der": "DER: who spoke when",
    "jer": "JER: the same, speaker by speaker",
    "teer": "TEER: what was felt when",
    "steer": "sTEER: who felt what when",
    "eder": "EDER: what was felt beside neutral",
    "uar": "UAR of answered turns",
    "ece": "calibration error of answered turns",
    "coverage": "seconds of turns with an emotion",
    "accuracy": "of these, seconds right",
}
COLOURS = {
    "angry": "red",
    "happy": "yellow",
    "enthusiasm": "yellow",
    "surprise": "magenta",
    "neutral": "white",
    "calm": "white",
    "sad": "blue",
    "boredom": "blue",
    "fear": "cyan",
    "disgust": "green",
}


def corpus(name: str, rows: Sequence[Utterance], labels: str = "") -> None:
    """Rows, speakers, hours and classes of a prepared corpus, by split where it has one; below it, where its labels come from."""
    classes = [label for label, _ in Counter(row.emotion for row in rows if row.emotion).most_common()]
    grouped = any(row.group for row in rows)
    table = Table(title=name, title_justify="left")
    table.add_column("split")
    for column in ("utterances", "speakers", *(("groups",) if grouped else ()), "hours", *classes):
        table.add_column(column, justify="right")
    have = {row.split for row in rows} - {None}
    sides = [*(side for side in SIDES if side in have), *sorted(str(side) for side in have - set(SIDES)), "all"]
    for place, side in enumerate(sides, start=2):
        part = [row for row in rows if side in (row.split, "all")]
        counts = Counter(row.emotion for row in part)
        named = str(len({row.corpus_speaker for row in part if row.speaker}) or "?")
        people = [named] + ([str(len({row.corpus_group for row in part}))] if grouped else [])
        table.add_row(
            side, str(len(part)), *people, hours(part), *(str(counts[label]) for label in classes), end_section=place == len(sides)
        )
    console().print(table)
    if labels:
        console().print(Text(f"labels: {labels}"))


def label_source(name: str) -> str:
    """The sentences about labels in the docstring of a corpus' module; empty for a manifest of one's own."""
    if name == "manifest":
        return ""
    about = " ".join((importlib.import_module(f"moodcast.corpora.{name}").__doc__ or "").split())
    return about.partition("Labels: ")[2].partition(" Splits: ")[0]


def hours(rows: Sequence[Utterance]) -> str:
    """Hours of audio, or a question mark where a length is unknown."""
    lengths = [row.stop_s - row.start_s if row.stop_s is not None else row.duration_s for row in rows]
    known = [length for length in lengths if length is not None]
    return f"{sum(known) / 3600:.2f}" if len(known) == len(lengths) else "?"


def fields(run: Run) -> None:
    """Every leaf of a run and its value."""
    from moodcast.config import leaves

    table = Table("field", "value")
    for name, value in leaves(run).items():
        table.add_row(name, Text(str(value)))
    console().print(table)


def report(found: Report) -> None:
    """Scores with intervals beside what trivial baselines get, guard lines, then the confusion of the whole."""
    from moodcast.scores import number, signed

    table = Table(title=f"{found.bundle} on split {found.split}; in %, with 95 % speaker intervals", title_justify="left")
    table.add_column("slice")
    besides = [beside.name for beside in found.slices[0].baselines]
    against = (f"UAR minus {found.against}",) if found.against else ()
    for column in ("utterances", "speakers", "UAR", "accuracy", "macro-F1", "calibration error", *besides, *against):
        table.add_column(column, justify="right")
    for scores in found.slices:
        ours = (scores.uar, scores.accuracy, scores.macro_f1, scores.sureness.ece)
        theirs = [f"{100 * beside.uar.value:.1f}" for beside in scores.baselines]
        more = [signed(scores.difference.uar)] if scores.difference else []
        row = [str(scores.num_utterances), str(scores.num_speakers), *(str(interval) for interval in ours), *theirs, *more]
        table.add_row(Text(scores.slice), *(Text(cell) for cell in row))
    screen = console()
    screen.print(table)
    for scores in found.slices:
        screen.print(Text(f"{scores.slice}: {scores.guard}"), soft_wrap=True)
    screen.print(confusion(found.classes, found.slices[0].confusion))
    for scores in found.slices:
        for name, concordance in scores.concordance.items():
            screen.print(f"{scores.slice}: concordance of {name} {number(concordance)}; a constant has 0", markup=False)
        if scores.distribution:
            skill = number(scores.distribution.skill)
            screen.print(f"{scores.slice}: skill over the train mean of {scores.distribution.num_utterances} votes {skill}", markup=False)
    for label, count in found.skipped.items():
        screen.print(f"skipped: {count} utterances labelled {label}, which this bundle does not know", markup=False)
    for note in found.notes:
        screen.print(f"note: {note}", markup=False)


def report_files(found: Report, data: Path | None, page: Path | None, answers: Path | None = None) -> list[Path]:
    """Write the report where it was asked for: all of it as JSON, and as a page with plots; and the answers that it scores as CSV."""
    from moodcast import report as pages

    if data:
        save(data, json.dumps(found.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    if page:
        pages.write(found, page)
    if answers and found.answers is not None:
        save(answers, pages.table(found.answers))
    return [path for path in (data, page, answers) if path]


def confusion(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> Table:
    """Counts as a table: rows are labels, columns are answers."""
    table = Table(title="labels down, answers across", title_justify="left")
    table.add_column("")
    for name in classes:
        table.add_column(name, justify="right")
    for name, row in zip(classes, counts, strict=True):
        table.add_row(name, *(str(count) for count in row))
    return table


def audit(found: Audit) -> None:
    """What was counted, what names give away, and every finding: worst first."""
    screen = console()
    screen.print(f"{found.num_rows} utterances, {found.hours:.2f} h")
    for what, values in found.classes.items():
        classes = list(next(iter(values.values())))
        table = Table(what, *(Column(name, justify="right") for name in (*classes, "all")))
        for value, counts in values.items():
            table.add_row(Text(value), *(str(counts[name] or "") for name in classes), str(sum(counts.values())))
        screen.print(table)
    rows = Table(title="findings, worst first", title_justify="left", show_lines=True)
    for column, ratio in (("kind", 2), ("what was found, and what to do", 6), ("utterances", 3)):
        rows.add_column(column, ratio=ratio, overflow="fold")
    for item in found.findings[:MOST_FINDINGS]:
        more = f"\nand {len(item.ids) - 3} more" if len(item.ids) > 3 else ""
        kind = Text.assemble((item.severity, SEVERITY[item.severity]), f"\n{item.kind}")
        rows.add_row(kind, Text.assemble(item.detail, (f"\n{item.do}", "dim")), Text("\n".join(item.ids[:3]) + more))
    if found.findings:
        screen.print(rows)
    if len(found.findings) > MOST_FINDINGS:
        screen.print(f"and {len(found.findings) - MOST_FINDINGS} more findings: --json lists all")
    totals = Counter[str](item.severity for item in found.findings)
    screen.print(", ".join(f"{totals[name]} {name}{'' if totals[name] == 1 else 's'}" for name in SEVERITY))


class Answers:
    """What `predict` prints: a line of JSON an utterance as it comes, or one table at the end. texts: of some it is known what is said."""

    def __init__(self, classes: Sequence[str], attributes: Sequence[str], as_json: bool, texts: bool = False) -> None:
        self.classes = classes
        self.attributes = attributes
        self.as_json = as_json
        self.texts = texts
        self.table = Table("file", "seconds", "emotion", *classes, *attributes, *(("rests on", "text") if texts else ()))

    def add(self, row: Utterance, answer: Answer) -> None:
        """One answered utterance."""
        if self.as_json:
            said = {"text": row.text} if row.text else {}
            print(json.dumps({**place(row), **plain(answer, self.attributes), **said}, ensure_ascii=False), flush=True)
        else:
            chances = (f"{answer.emotions[name]:.2f}" if answer.emotions else "" for name in self.classes)
            rated = (f"{value:.2f}" for value in ([] if answer.attributes is None else answer.attributes))
            said_too = (" and ".join(answer.modalities), Text(row.text or "")) if self.texts else ()
            self.table.add_row(Text(row.id), f"{answer.seconds:.1f}", coloured(answer.label), *chances, *rated, *said_too)

    def add_failure(self, row: Utterance, error: Exception) -> None:
        """One that could not be answered: it is named and the rest goes on."""
        if self.as_json:
            print(json.dumps({**place(row), "error": explain(error) or str(error)}, ensure_ascii=False), flush=True)
        else:
            fail_on(row.id, error)

    def close(self) -> None:
        """Print the table, if there is something in it."""
        if not self.as_json and self.table.row_count:
            console().print(self.table)


def place(row: Utterance) -> dict[str, str]:
    """Where an utterance is: its file, and its id where that is another name."""
    return {"file": row.path, **({"id": row.id} if row.id != row.path else {})}


def conversations(scores: Mapping[str, Sequence[ConversationScore]], collar_s: float, overlap: bool) -> None:
    """Error rates of conversations, a column for each kind of turns; how many speakers were found; accuracy by confidence."""
    from moodcast.scores import number
    from moodcast.study.conversation import count_error, pooled
    from moodcast.study.coverage import curve

    table = Table(title=f"in %, collar {collar_s:g} s, overlap {'scored' if overlap else 'left out'}, 95 % by conversation")
    table.add_column("")
    rates = {kind: pooled(each) for kind, each in scores.items()}
    for kind in scores:
        table.add_column(kind, justify="right")
    for name in dict.fromkeys(name for each in rates.values() for name in each):
        table.add_row(
            NAMES_OF_ERRORS.get(name, name.replace("teer, ", "TEER, ")),
            *(str(each[name]) if name in each else "" for each in rates.values()),
        )
    console().print(table)
    for kind, each in scores.items():
        right = sum(one.speakers == one.speakers_found for one in each)
        off = count_error(each)[0]
        console().print(f"{kind}: the right number of speakers in {right} of {len(each)}, off by {number(off)} in the mean")
    for kind, each in scores.items():
        if kind != "trivial" and "coverage" in rates[kind]:
            points = curve([one.judged for one in each], (0.0, 0.5, 0.7, 0.9))
            shares = ((p.min_confidence, p.accuracy.value, p.coverage.value) for p in points)
            told = (f"{bound:g}: {100 * right:.0f} of {100 * part:.0f}" if part else f"{bound:g}: none" for bound, right, part in shares)
            console().print(f"{kind}: % of seconds right, of % answered, from a confidence of {', '.join(told)}")


def plain(answer: Answer, attributes: Sequence[str]) -> dict[str, Any]:
    """An answer as plain data for JSON; times in seconds, probabilities by class, attributes by name where the bundle answers some."""
    chunks: list[dict[str, Any]] = []
    if answer.chunk_emotion is not None:
        for (start_s, stop_s), row in zip(answer.spans, answer.chunk_emotion, strict=True):
            emotions = {name: round(float(p), 6) for name, p in zip(answer.classes, row, strict=True)}
            chunks.append({"start_s": round(start_s, 3), "stop_s": round(stop_s, 3), "emotions": emotions})
    values = [] if answer.attributes is None else [round(float(value), 6) for value in answer.attributes]
    rated = dict(zip(attributes, values, strict=True)) if values else {}
    return {
        "seconds": round(answer.seconds, 3),
        "emotion": answer.label,
        "confidence": None if answer.confidence is None else round(answer.confidence, 6),
        "emotions": {name: round(p, 6) for name, p in answer.emotions.items()},
        **({"attributes": rated} if rated else {}),
        "modalities": list(answer.modalities),
        "chunks": chunks,
    }


def timeline(found: Timeline) -> None:
    """One row a turn: when, who, what and how sure."""
    table = Table(title=f"{found.uri}: {clock(found.duration_s)}, speakers: {len(found.speakers)}", title_justify="left")
    for column in ("from", "to"):
        table.add_column(column, justify="right")
    table.add_column("speaker")
    table.add_column("emotion")
    table.add_column("sure", justify="right")
    for segment in found.segments:
        answer = coloured(segment.emotion) if segment.status == "ok" else Text(segment.status.replace("_", " "), style="dim")
        sure = "" if segment.confidence is None else f"{segment.confidence:.2f}"
        table.add_row(clock(segment.start_s), clock(segment.stop_s), Text(segment.speaker), answer, sure)
    console().print(table)


def fit(folder: Path, bundle: Path, views: Sequence[str]) -> None:
    """What a training run left, what shows its curves, and what comes next."""
    left = [("run", folder), ("bundle", bundle), *(("curves", view) for view in views)]
    for what, where in (*left, ("next", f"moodcast evaluate {shlex.quote(str(bundle))} MANIFEST --html scores.html")):
        console().print(Text(f"{what}: {where}"), soft_wrap=True)


def save(path: Path, text: str) -> Path:
    """Write a file, and its folder where that is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
    return path


def written(places: Sequence[Path | str]) -> None:
    """Where the files are, or what is no file here."""
    for place in places:
        console().print(Text(f"written: {place}"), soft_wrap=True)


def coloured(emotion: str | None) -> Text:
    """A class name in its colour."""
    return Text(emotion or "", style=COLOURS.get(emotion or "", ""))


def clock(seconds: float) -> str:
    """83.25 -> "1:23.2"; tenths, cut and not rounded, so that no time lies after the end."""
    tenths = int(seconds * 10 + 1e-6)
    minutes, rest = divmod(tenths, 600)
    return (
        f"{minutes // 60}:{minutes % 60:02d}:{rest // 10:02d}.{rest % 10}" if minutes >= 60 else f"{minutes}:{rest // 10:02d}.{rest % 10}"
    )
