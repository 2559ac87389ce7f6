"""WordChunks: are random pieces sturdier than exact ones where a modality is missing, and sturdier than plain modality dropout?

    python benchmarks/word_chunks.py run --corpora synthetic --minutes 20    # trains what is missing; appends JSON lines to results/
    python benchmarks/word_chunks.py report --folds 2 --page docs/word_chunks.md      # the tables from them
    python benchmarks/word_chunks.py run --folds 2 --most 600 --set train.epochs=20 --out SMALL     # smaller: every line says so
    python benchmarks/word_chunks.py run --smoke --out TRY                   # whether all of it works, not how well

Four corpora. resd: real Russian dialogues with what was really said. synthetic, the positive control: the sound of emodb, words made of
its phones with their true times, and a text made by code, each word of which names the emotion with probability 0.33 (a text alone then
says it in about 60 of 100 cases; chosen on simulated texts before anything was trained). emodb and nemo, the negative controls: their own
sentences, which are the same for every emotion. Arms: each modality alone; fixed pieces; random crops (the paper's proposal); fixed
pieces with plain modality dropout; both; and, where words have times, exact and centred pieces. Every arm is asked with all shares of
words and of frames missing; what counts is the mean over the shares. Folds by speaker (resd: by dialogue), never used to choose anything:
the last epoch counts. The audio is not part of this repository: MOODCAST_CORPORA, or shared/corpora beside the repository, holds it.

Figures of `report`, a corpus each, goal 0: word_chunks_CORPUS_random_minus_OTHER_missing_words_points and the same of frames, the mean over
the shares that are missing; OTHER is exact, or fixed_dropout: fixed pieces with plain modality dropout.

Takes: 1 minute a run of the smaller recipe on one core; 104 such runs are behind docs/word_chunks.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.shared import RESULTS, begin, command, figures, options_of, prepared, refuse_others, some
from jobs.word_chunks import RUN
from moodcast import config, lines, manifest, metrics
from moodcast.batch import Batch, collate
from moodcast.cluster.data import CachedStretches, Part
from moodcast.cluster.process import set_up
from moodcast.labels import CLASSES, Labels
from moodcast.manifest import Utterance
from moodcast.nn import lost
from moodcast.order import balance_weights
from moodcast.run import Run, build
from moodcast.step import Trainer
from moodcast.study.phonetics import few
from moodcast.whole import write_whole

TELLING = 0.33  # how often a word of the synthetic text names the emotion
PHONES_A_WORD = 4
LEXICON = 12  # words that name each emotion
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
KINDS = ("words", "frames")
CONDITIONS = {"all there": "words 0", "no text": "text 1", "no words": "words 1", "no sound": "frames 1"}  # columns of their own
PLAIN = ["method.drop_text=0", "method.drop_audio=0"]
DROPPED = ["method.drop_text=0.3", "method.drop_audio=0.3"]
ARMS = {
    "audio alone": ["method.align=fixed", "method.drop_text=1", "method.drop_audio=0"],
    "text alone": ["method.align=fixed", "method.drop_text=0", "method.drop_audio=1"],
    "fixed": ["method.align=fixed", *PLAIN],
    "random": ["method.align=random", *PLAIN],
    "fixed, dropout": ["method.align=fixed", *DROPPED],
    "random, dropout": ["method.align=random", *DROPPED],
    "exact": ["method.align=exact", *PLAIN],
    "centred": ["method.align=centred", *PLAIN],
}
MARKS = ("<!-- tables: begin (benchmarks/word_chunks.py) -->", "<!-- tables: end -->")
TIMED = ("exact", "centred")  # arms that want to know when words are said
CORPORA = {"synthetic": "emodb", "emodb": "emodb", "resd": "resd", "nemo": "nemo"}
SMOKE = ["train.epochs=2", "method.width=16", "method.layers=1"]


def rows_of(corpus: str, most: int, smoke: bool) -> list[Utterance]:
    """The clips of a corpus, `most` at most; of the synthetic one with words and texts made for them."""
    rows = [row for row in prepared(CORPORA[corpus]) if row.emotion in CLASSES and row.text]
    rows = few(rows, CLASSES, most) if most else rows
    if corpus == "synthetic":
        rows = [spoken(row, number) for number, row in enumerate(rows) if row.phones]
    return rows[:: max(1, len(rows) // 150)] if smoke else rows


def spoken(row: Utterance, number: int) -> Utterance:
    """The row with words of a few phones each, at their true times, and a synthetic text that hints at the emotion."""
    rng = np.random.default_rng([7, number])
    phones = list(row.phones or ())
    groups = [phones[start : start + PHONES_A_WORD] for start in range(0, len(phones), PHONES_A_WORD)]
    names = sorted(CLASSES)
    others = [name for name in names if name != row.emotion]
    told = [row.emotion if rng.random() < TELLING else others[int(rng.integers(len(others)))] for _ in groups]
    texts = [f"{str(name)[:2]}{'abcdefghijkl'[int(rng.integers(LEXICON))]}o" for name in told]
    words = tuple((text, group[0][1], group[-1][2]) for text, group in zip(texts, groups, strict=True))
    return replace(row, text=" ".join(texts), words=words)


def settings(rows: Sequence[Utterance], options: argparse.Namespace, arm: str, seed: int) -> Run:
    labels = Labels(tuple(sorted({str(row.emotion) for row in rows})))
    changes = config.parse_overrides([*(SMOKE if options.smoke else []), *ARMS[arm], *options.set])
    return config.replace_at(replace(RUN, labels=labels), {**changes, "train.seed": seed, "train.threads": 1})


def run_one(options: argparse.Namespace, corpus: str, arm: str, seed: int, fold: int) -> None:
    """Train on all folds but one, and ask that under every condition: counts by speaker."""
    rows = rows_of(corpus, options.most, options.smoke)
    run = settings(rows, options, arm, seed)
    whole = CachedStretches(rows, run)
    fold_of = np.array(manifest.folds(rows, options.folds, seed=0))[whole.owners]
    heard = Part(whole, np.flatnonzero(fold_of != fold))
    started = time.monotonic()
    method = build(run)
    trainer = Trainer(method, run.train, heard, balance_weights([rows[i] for i in whole.owners[heard.at]], run.labels, run.train.balance))
    for epoch in range(run.train.epochs):
        trainer.epoch(epoch)
    minutes = round((time.monotonic() - started) / 60, 2)
    method.eval()
    asked = np.flatnonzero(fold_of == fold)
    owners = [rows[i] for i in whole.owners[asked]]
    truth = [run.labels.classes.index(str(row.emotion)) for row in owners]
    found: dict[str, dict[str, Any]] = {}
    for kind in (*KINDS, "text"):
        for share in SHARES if kind in KINDS else SHARES[-1:]:
            if share == 0 and found:  # all there is the same whatever is not missing
                found[f"{kind} 0"] = found[f"{KINDS[0]} 0"]
                continue
            with torch.no_grad():
                guess = torch.cat([method(batch).emotion.argmax(-1) for batch in missing(whole, asked, kind, share)])
            counts = metrics.by_speaker(truth, guess.tolist(), [row.corpus_speaker for row in owners], len(run.labels.classes))
            found[f"{kind} {share:g}"] = dict(zip(sorted({row.corpus_speaker for row in owners}), counts.astype(int).tolist(), strict=True))
    record = {"corpus": corpus, "arm": arm, "fold": fold, "seed": seed, "minutes": minutes, "counts": found}
    lines.add(options.out, {**record, "command": command_of(options)})
    scores = [100 * float(metrics.uar(np.sum(list(part.values()), axis=0, dtype=float))) for part in found.values()]
    print(f"{corpus}, {arm}, fold {fold}, seed {seed} ({minutes} min): {' '.join(f'{score:.0f}' for score in scores)}", flush=True)


def missing(whole: CachedStretches, asked: NDArray[np.int64], kind: str, share: float, size: int = 64) -> Iterator[Batch]:
    """Batches of stretches of which a share of the words, or of the frames, is missing; of all frames, none is attended to.

    With a word go the samples that it takes and its times, where they are known; with the text ("text", all of it) neither.
    """
    run = whole.run
    for start in range(0, len(asked), size):
        waves, rows = [], []
        for index in asked[start : start + size]:
            stretch = whole.stretches[index]
            row, wave = whole.rows[stretch.row], np.array(whole.store[stretch.row][stretch.start : stretch.stop])
            rng = np.random.default_rng([11, int(index), round(100 * share)])
            if kind == "frames":
                wave = lost.without_frames(wave, run.audio.rate, share, rng)
            elif kind == "text":
                row = replace(row, text=None, words=None)
            elif share:
                gone = lost.lost_words(len((row.text or "").split()), share, rng)
                for place in gone if row.words else ():
                    _, begin, end = row.words[place]
                    wave[round(begin * run.audio.rate) : round(end * run.audio.rate)] = 0.0
                left = tuple(word for place, word in enumerate(row.words or ()) if place not in gone)
                row = replace(row, text=lost.without_words(row.text or "", gone), words=left or None)
            waves.append(wave)
            rows.append(row)
        batch = collate(waves, run.chunks, run.audio.rate, run.labels, rows)
        yield replace(batch, lengths=0 * batch.lengths) if kind == "frames" and share == 1.0 else batch


def run_all(options: argparse.Namespace) -> None:
    """One after the other; what is there already is not made again."""
    made = lines.read(options.out)
    refuse_others(options.out, (record["command"] for record in made), command_of(options))
    done = {(record["corpus"], record["arm"], record["seed"], record["fold"]) for record in made}
    stop = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    wanted = [
        (corpus, arm, seed, fold)
        for seed in options.seeds
        for corpus in options.corpora
        for arm in options.arms
        if corpus == "synthetic" or arm not in TIMED
        for fold in range(options.folds)
    ]
    missing_runs = [task for task in wanted if task not in done]
    print(f"{len(missing_runs)} runs to make, {len(wanted) - len(missing_runs)} of {len(wanted)} made", flush=True)
    for corpus, arm, seed, fold in missing_runs:
        if time.monotonic() > stop:
            break
        run_one(options, corpus, arm, seed, fold)


def command_of(options: argparse.Namespace) -> str:
    """What makes such a record: the recipe's changes belong to it."""
    sizes = [*(["--folds", str(options.folds)] if options.folds != 5 else []), *(["--most", str(options.most)] if options.most else [])]
    changes = [*(["--smoke"] if options.smoke else []), *sizes, *(["--set", *options.set] if options.set else [])]
    return command(__file__, ["run", *changes])


# ------------------------------------------------------------------------------------------------------ report


def stacked(found: Sequence[dict[str, Any]], condition: str) -> NDArray[np.float64]:
    """Counts [speakers, K, K] of an arm under a condition, folds and seeds together."""
    sums: dict[str, NDArray[np.float64]] = {}
    for record in found:
        for name, counts in record["counts"][condition].items():
            sums[name] = sums.get(name, 0.0) + np.array(counts, dtype=float)
    return np.stack([sums[name] for name in sorted(sums)])


def over_shares(found: Sequence[dict[str, Any]], kind: str) -> NDArray[np.float64]:
    """[speakers, shares, K, K]."""
    return np.stack([stacked(found, f"{kind} {share:g}") for share in SHARES], axis=1)


def mean_uar(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over shares of the UAR of counts [..., shares, K, K]."""
    return np.asarray(metrics.uar(counts)).mean(-1)


Arms = dict[str, tuple[list[int], list[dict[str, Any]]]]  # the seeds of an arm of which every fold is there, and their records


def whole_arms(every: Sequence[dict[str, Any]], corpus: str, folds: int) -> Arms:
    arms = {}
    for arm in ARMS:
        mine = {(r["seed"], r["fold"]): r for r in every if r["corpus"] == corpus and r["arm"] == arm}
        seeds = [seed for seed in sorted({seed for seed, _ in mine}) if all((seed, fold) in mine for fold in range(folds))]
        if seeds:
            arms[arm] = (seeds, [mine[seed, fold] for seed in seeds for fold in range(folds)])
    return arms


def tables(known: dict[str, Arms]) -> str:
    """A table a corpus: UAR with everything there and with something missing; means over missing shares; paired differences."""
    return "\n\n".join(table(corpus, arms) if arms else f"{corpus}: not finished" for corpus, arms in known.items())


def minus(arms: Arms, arm: str, other: str, kind: str) -> metrics.Interval | None:
    """How far an arm is above another one in the mean over missing shares, on the seeds that both have; None where there are none."""
    if arm == other or not {arm, other} <= arms.keys() or not (both := set(arms[arm][0]) & set(arms[other][0])):
        return None
    ours, base = (over_shares([r for r in arms[name][1] if r["seed"] in both], kind) for name in (arm, other))
    return metrics.paired_bootstrap(mean_uar, ours, base)


def table(corpus: str, arms: Arms) -> str:
    """The table of one corpus."""
    first = stacked(next(iter(arms.values()))[1], "words 0")
    size = f"{first.shape[0]} speakers, {int(first.sum()) // len(next(iter(arms.values()))[0])} clips, {first.shape[1]} classes"
    means = [f"mean over missing {kind}" for kind in KINDS]
    head = ["arm", "seeds", *CONDITIONS, *means, *(f"{name}, minus fixed" for name in means)]
    told = [f"{corpus}: {size}, chance and majority {100 / first.shape[1]:.1f}", "", f"| {' | '.join(head)} |", "|" + len(head) * "---|"]
    for arm, (seeds, found) in arms.items():
        knows = all("text 1" in record["counts"] for record in found)
        plain = [
            str(metrics.speaker_bootstrap(metrics.uar, stacked(found, name))) if name != "text 1" or knows else "-"
            for name in CONDITIONS.values()
        ]
        areas = [str(metrics.speaker_bootstrap(mean_uar, over_shares(found, kind))) for kind in KINDS]
        gains = [str(minus(arms, arm, "fixed", kind) or "") for kind in KINDS]
        told.append(f"| {arm} | {len(seeds)} | {' | '.join([*plain, *areas, *gains])} |")
    return "\n".join(told)


def report(options: argparse.Namespace) -> None:
    """Print the tables and the figures, or put the tables where a page has them, or (check) only say whether they are up to date."""
    every = lines.read(options.out)
    if not every:
        raise ValueError(f"{options.out} holds no rows; `run` makes them")
    known = {corpus: whole_arms(every, corpus, options.folds) for corpus in options.corpora}
    if options.page is None:
        print(tables(known))
        for corpus, arms in known.items():
            gains = {(other, kind): minus(arms, "random", other, kind) for other in ("exact", "fixed, dropout") for kind in KINDS}
            found = {(other.replace(", ", "_"), kind): 100 * gain.value for (other, kind), gain in gains.items() if gain}
            figures(
                {f"word_chunks_{corpus}_random_minus_{other}_missing_{kind}_points": value for (other, kind), value in found.items()}, 0
            )
        return
    text = options.page.read_text(encoding="utf-8")
    if not (MARKS[0] in text and MARKS[1] in text):
        raise ValueError(f"{options.page} lacks the markers {MARKS[0]} and {MARKS[1]}")
    before, _, rest = text.partition(MARKS[0])
    wanted = f"{before}{MARKS[0]}\n{tables(known)}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}"
    if options.check and wanted != text:
        raise SystemExit(f"{options.page} is out of date: run the same without --check")
    if wanted != text:
        write_whole(options.page, wanted)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("do", choices=("run", "report"))
    parser.add_argument("--corpora", nargs="+", choices=sorted(CORPORA), default=["synthetic", "resd", "emodb", "nemo"])
    parser.add_argument("--arms", nargs="+", choices=sorted(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--minutes", type=float, default=0, help="start nothing new after so many; 0 for no limit")
    parser.add_argument("--folds", type=some, default=5)
    parser.add_argument("--most", type=int, default=0, help="clips of a corpus; 0 for all")
    parser.add_argument("--smoke", action="store_true", help="150 clips, two epochs of a small network")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="changes to the recipe, for a try")
    parser.add_argument("--out", type=Path, default=RESULTS / "word_chunks.jsonl")
    parser.add_argument("--page", type=Path, help="report: put the tables there instead of printing them")
    parser.add_argument("--check", action="store_true", help="report: only say whether the page is up to date")
    options = parser.parse_args()
    set_up(threads=1)
    {"run": run_all, "report": report}[options.do](options)


if __name__ == "__main__":
    begin(main)
