"""The card of MultiLoss: does energy-adaptive mixup help more than others, does each loss help, does frame-level attention?

    python benchmarks/multi_loss.py run --corpora emodb --minutes 30     # trains what is missing; appends JSON lines to results/
    python benchmarks/multi_loss.py plain --corpora emodb                # the baseline: plain statistics, logistic regression
    python benchmarks/multi_loss.py report                               # the tables from them, and scripts/multi_loss_table.py the page
    python benchmarks/multi_loss.py run --smoke --corpora emodb --out TRY   # whether all of it works, not how well

Three one-factor comparisons around the settings of jobs/multi_loss.py, not a grid: six mixups (all losses, attention), losses added one
by one (energy-adaptive mixup, attention), three poolings (energy-adaptive mixup, all losses). emodb in five speaker folds, ravdess in two
halves of twelve actors (six folds would be three times the runs, each longer), 2,000 clips of cremad with one fifth of the actors held
out. All classes of a corpus. Folds never choose anything: no dev split, the last epoch counts. A run is a process of its own, `--jobs` at
once, on the GPU where there is one; a call makes only what is missing and starts nothing new after `--minutes`. The audio is not part of
this repository: MOODCAST_CORPORA, or shared/corpora beside the repository, holds it.

Figures of `report`, a corpus each: multi_loss_CORPUS_energy_minus_length_points, energy-adaptive mixup above length-aware mixup, goal 0.

Takes: 1 to 30 minutes a run on one core, by corpus and recipe; 418 runs are behind docs/multi_loss.md, 12.5 hours.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.shared import RESULTS, begin, command, figures, in_processes, options_of, prepared, refuse_others, some
from moodcast import baselines, config, lines, manifest, metrics
from moodcast.cluster.data import CachedStretches, Part
from moodcast.cluster.process import set_up
from moodcast.labels import CLASSES, Labels
from moodcast.manifest import Utterance
from moodcast.order import balance_weights
from moodcast.passes import predict
from moodcast.run import Run, build
from moodcast.step import Trainer

Indices = NDArray[np.int64]
Counts = dict[str, NDArray[np.float64]]  # by speaker


@dataclass(frozen=True)
class Card:
    """How a corpus is used: in how many speaker folds, which of them are answered, how many clips (0: all) and seeds."""

    folds: int
    asked: tuple[int, ...]
    clips: int = 0
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)


CARDS = {
    "emodb": Card(5, (0, 1, 2, 3, 4)),
    "ravdess": Card(2, (0, 1)),
    "cremad": Card(5, (0,), 2000, (0, 1, 2)),
}
SMOKE = Card(2, (0, 1), 200, (0,))
SMALL = ["train.epochs=2", "method.width=32", "method.channels=4"]
FULL = "energy"  # all losses, energy-adaptive mixup, attention: one arm of each of the three comparisons
MIXUPS = {name: [f"method.mix.kind={name}"] for name in ("none", "mixup", "length", "energy_hard", FULL, "manifold")}
OFF = {name: f"method.weights.{name}=0" for name in ("focal", "centre", "contrast")}
LOSSES = {
    "kl": list(OFF.values()),
    "kl + focal": [OFF["centre"], OFF["contrast"]],
    "kl + focal + centre": [OFF["contrast"]],
    FULL: [],
}
POOLINGS = {f"{name} pooling": [f"method.pool={name}"] for name in ("mean", "max")} | {FULL: []}
ARMS: dict[str, list[str]] = {**MIXUPS, **LOSSES, **POOLINGS, FULL: []}
COMPARISONS = (  # title, what the arm with everything is called in it, its arms, and those that every arm is compared with
    ("mixup (all losses, attention)", FULL, list(MIXUPS), ["none", "length"]),
    ("losses (energy mixup, attention)", "kl + focal + centre + contrast", list(LOSSES), ["kl", "kl + focal", "kl + focal + centre"]),
    ("pooling (energy mixup, all losses)", "attention", list(POOLINGS), ["mean pooling", "max pooling"]),
)


def card_of(corpus: str, options: argparse.Namespace) -> Card:
    return SMOKE if options.smoke else CARDS[corpus]


def rows_of(corpus: str, card: Card) -> list[Utterance]:
    """The clips of a corpus; the same ones always, where there are more than the card wants."""
    rows = [row for row in prepared(corpus) if row.emotion in CLASSES]
    if not card.clips or len(rows) <= card.clips:
        return rows
    kept = np.sort(np.random.default_rng(0).choice(len(rows), card.clips, replace=False))
    return [rows[i] for i in kept]


def settings(rows: Sequence[Utterance], options: argparse.Namespace, arm: str, seed: int) -> Run:
    from jobs.multi_loss import RUN

    labels = Labels(tuple(sorted({str(row.emotion) for row in rows})))
    changes = config.parse_overrides([*(SMALL if options.smoke else []), *ARMS[arm], *options.set])
    return config.replace_at(replace(RUN, labels=labels), {**changes, "train.seed": seed, "train.threads": 1})


def run_one(options: argparse.Namespace) -> None:
    """Train on all folds but one, and answer that: counts by speaker."""
    (corpus,), (arm,), (seed,), fold = options.corpora, options.arms, options.seeds, options.fold
    card = card_of(corpus, options)
    rows = rows_of(corpus, card)
    run = settings(rows, options, arm, seed)
    whole = CachedStretches(rows, run)
    fold_of = np.array(manifest.folds(rows, card.folds, seed=0))[whole.owners]
    heard, asked = Part(whole, np.flatnonzero(fold_of != fold)), Part(whole, np.flatnonzero(fold_of == fold))
    started = time.monotonic()
    method = build(run).to("cuda" if torch.cuda.is_available() else "cpu")
    trainer = Trainer(method, run.train, heard, balance_weights([rows[i] for i in whole.owners[heard.at]], run.labels, run.train.balance))
    trainer.fit_once()
    terms: dict[str, float] = {}
    for epoch in range(run.train.epochs):
        terms = trainer.epoch(epoch)
    own, local = np.unique(whole.owners[asked.at], return_inverse=True)
    given = predict(method, asked, local, whole.seconds[asked.at], run.train.batch_size)[0]
    counts = counted(run.labels.classes, [rows[i] for i in own], given.argmax(1))
    record = {"corpus": corpus, "arm": arm, "fold": fold, "seed": seed, "minutes": round((time.monotonic() - started) / 60, 2)}
    write(options, {**record, "losses": {name: round(value, 4) for name, value in terms.items()}, "counts": counts})
    score = float(metrics.uar(np.sum(list(counts.values()), axis=0, dtype=float)))
    print(f"{corpus} {arm} fold {fold} seed {seed}: UAR {100 * score:.1f} ({record['minutes']} min)", flush=True)


def counted(classes: Sequence[str], rows: Sequence[Utterance], guess: Indices) -> dict[str, list[list[int]]]:
    """By speaker, how often each class was answered as which."""
    speakers = [row.corpus_speaker for row in rows]
    found = metrics.by_speaker([classes.index(str(row.emotion)) for row in rows], guess.tolist(), speakers, len(classes))
    return dict(zip(sorted(set(speakers)), found.astype(int).tolist(), strict=True))


def run_all(options: argparse.Namespace) -> None:
    """Each run in a process of its own, --jobs at once; what is there already is not made again."""
    made = lines.read(options.out)
    refuse_others(options.out, (r["command"] for r in made if r["arm"] in ARMS), command_of(options, "run"))
    done = {(r["seed"], r["corpus"], r["fold"], r["arm"]) for r in made}
    wanted = [
        (seed, corpus, fold, arm)
        for seed in options.seeds or sorted({seed for corpus in options.corpora for seed in card_of(corpus, options).seeds})
        for corpus in options.corpora
        if seed in (options.seeds or card_of(corpus, options).seeds)
        for fold in (options.folds if options.folds is not None else card_of(corpus, options).asked)
        for arm in options.arms
    ]
    missing = [task for task in wanted if task not in done]
    for corpus in options.corpora:  # decoded once, before many want it
        rows = rows_of(corpus, card_of(corpus, options))
        CachedStretches(rows, settings(rows, options, FULL, 0))
    print(f"{len(missing)} runs to make, {len(wanted) - len(missing)} of {len(wanted)} made", flush=True)
    always = ["--out", str(options.out), *changes_of(options)]
    commands = [
        [sys.executable, __file__, "one", "--corpora", corpus, "--arms", arm, "--fold", str(fold), "--seeds", str(seed), *always]
        for seed, corpus, fold, arm in missing
    ]
    well, failed = in_processes(commands, options.jobs, options.minutes)
    print(f"{well} runs made, {len(missing) - well} to go", flush=True)
    if failed:
        raise SystemExit(f"{failed} runs failed; the same command tries them again")


def plain(options: argparse.Namespace) -> None:
    """The baseline on the same clips and folds."""
    done = {(r["corpus"], r["fold"]) for r in lines.read(options.out) if r["arm"] == "plain statistics"}
    for corpus in options.corpora:
        card = card_of(corpus, options)
        rows = rows_of(corpus, card)
        run = settings(rows, options, FULL, 0)
        found = baselines.statistics_of(CachedStretches(rows, run).store)
        truth = np.array([run.labels.classes.index(str(row.emotion)) for row in rows])
        fold_of = np.array(manifest.folds(rows, card.folds, seed=0))
        for fold in (fold for fold in card.asked if (corpus, fold) not in done):
            heard, asked = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            guess = baselines.plain_statistics(found[heard], truth[heard], found[asked]).guess
            counts = counted(run.labels.classes, [rows[i] for i in asked], guess)
            write(options, {"corpus": corpus, "arm": "plain statistics", "fold": fold, "seed": None, "counts": counts}, "plain")


def write(options: argparse.Namespace, record: dict[str, Any], do: str = "run") -> None:
    lines.add(options.out, {**record, "command": command_of(options, do)})


def command_of(options: argparse.Namespace, do: str) -> str:
    """What makes such a record: the recipe's changes belong to it."""
    return command(__file__, [do, *changes_of(options)])


def changes_of(options: argparse.Namespace) -> list[str]:
    return [*(["--smoke"] if options.smoke else []), *(["--set", *options.set] if options.set else [])]


# ------------------------------------------------------------------------------------------------------ report


@dataclass(frozen=True)
class Known:
    """The records of one corpus, and the seeds of which every wanted arm has all folds."""

    corpus: str
    records: list[dict[str, Any]]
    seeds: tuple[int | None, ...]

    def counts(self, arm: str, seeds: Sequence[int | None]) -> Counts:
        """Counts by speaker over all folds and the seeds together, so that a speaker's are drawn together."""
        found: Counts = {}
        for record in self.records:
            if record["arm"] == arm and record["seed"] in seeds:
                for name, count in record["counts"].items():
                    found[name] = found.get(name, 0.0) + np.array(count, dtype=float)
        return found

    def stacked(self, arm: str) -> NDArray[np.float64]:
        """[speakers, K, K]; a baseline without seeds counts as often as the seeds of the others."""
        if arm == "plain statistics":
            counts = self.counts(arm, (None,))
            return np.stack([counts[name] * len(self.seeds) for name in sorted(counts)])
        counts = self.counts(arm, self.seeds)
        return np.stack([counts[name] for name in sorted(counts)])

    def uar(self, arm: str) -> str:
        return str(metrics.speaker_bootstrap(metrics.uar, self.stacked(arm)))

    def minus(self, arm: str, other: str) -> metrics.Interval:
        return metrics.paired_bootstrap(metrics.uar, self.stacked(arm), self.stacked(other))

    def by_seed(self, arm: str) -> str:
        each = [np.sum(list(self.counts(arm, (seed,)).values()), axis=0) for seed in self.seeds]
        return ", ".join(f"{100 * float(metrics.uar(count)):.1f}" for count in each)


def known_of(corpus: str, every: list[dict[str, Any]], arms: Sequence[str], folds: Sequence[int]) -> Known | None:
    """What is finished of a corpus for all of `arms`; None where no seed is."""
    # a run whose driver was killed may end after another driver has started it again: the last one counts, once
    mine = list({(r["arm"], r["seed"], r["fold"]): r for r in every if r["corpus"] == corpus}.values())
    done = {(r["arm"], r["seed"], r["fold"]) for r in mine}
    seeds = [
        seed
        for seed in sorted({r["seed"] for r in mine if r["seed"] is not None})
        if all((arm, seed, fold) in done for arm in arms for fold in folds)
    ]
    return Known(corpus, mine, tuple(seeds)) if seeds else None


def report(options: argparse.Namespace) -> None:
    """Three tables a corpus, and the card's rule; an arm that is not finished leaves its table out."""
    every = lines.read(options.out)
    if not every:
        raise ValueError(f"{options.out} holds no rows; `run` makes them")
    verdicts = []
    for corpus in options.corpora:
        for title, full, arms, others in COMPARISONS:
            known = known_of(corpus, every, arms, card_of(corpus, options).asked)
            if known is None:
                print(f"{corpus}, {title}: not finished\n")
                continue
            print("\n".join([*table(known, title, full, arms, others), ""]))
            if "length" in others:
                verdicts.append((corpus, known.minus(FULL, "length")))
    if verdicts:
        passed = any(gain.low > 0 for _, gain in verdicts) and not any(gain.high < 0 for _, gain in verdicts)
        print(f"energy-adaptive over length-aware: {'holds' if passed else 'does not hold'} on {', '.join(name for name, _ in verdicts)}")
    figures({f"multi_loss_{corpus}_energy_minus_length_points": 100 * gain.value for corpus, gain in verdicts}, 0)


def table(known: Known, title: str, full: str, arms: Sequence[str], others: Sequence[str]) -> list[str]:
    """One comparison; `full` is what the arm with everything is called in it."""
    speakers, num_classes, _ = known.stacked(arms[0]).shape
    utterances, seeds = int(known.stacked(arms[0]).sum()) // len(known.seeds), list(known.seeds)
    told = [
        f"{known.corpus}, {title}: {utterances} utterances of {speakers} unheard speakers, {num_classes} classes, seeds {seeds}.",
        f"UAR in %, majority {100 / num_classes:.1f}, 95 % by bootstrap over speakers, all seeds of a speaker together.",
        "",
        f"| {title.partition(' (')[0]} | UAR | {' | '.join(f'minus {name}' for name in others)} | by seed |",
        "|---|---|" + "---|" * len(others) + "---|",
    ]
    for arm in arms:
        gains = [str(known.minus(arm, other)) if arm != other else "-" for other in others]
        told.append(f"| {full if arm == FULL else arm} | {known.uar(arm)} | {' | '.join(gains)} | {known.by_seed(arm)} |")
    if known.counts("plain statistics", (None,)):
        gains = [str(known.minus("plain statistics", other)) for other in others]
        told.append(f"| plain statistics | {known.uar('plain statistics')} | {' | '.join(gains)} | |")
    return told


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("do", choices=("run", "one", "plain", "report"), help="one: what `run` calls for each run")
    parser.add_argument("--corpora", nargs="+", choices=sorted(CARDS), default=sorted(CARDS))
    parser.add_argument("--arms", nargs="+", choices=sorted(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, help="those of the card unless given")
    parser.add_argument("--folds", nargs="+", type=int, help="those of the card unless given")
    parser.add_argument("--fold", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--jobs", type=some, default=1, help="runs at once")
    parser.add_argument("--minutes", type=float, default=0, help="start nothing new after so many; 0 for no limit")
    parser.add_argument("--smoke", action="store_true", help="200 clips, two folds, one seed, two epochs of a small encoder")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="changes to the recipe, for a try")
    parser.add_argument("--out", type=Path, default=RESULTS / "multi_loss.jsonl")
    options = parser.parse_args()
    set_up(threads=1)
    {"run": run_all, "one": run_one, "plain": plain, "report": report}[options.do](options)


if __name__ == "__main__":
    begin(main)
