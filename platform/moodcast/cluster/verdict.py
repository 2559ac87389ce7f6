"""What came of a sweep: its winner trained anew and scored once on speakers that nobody chose by, beside what it has to beat.

An inner score that was the best of forty is too good by being the best. So the winner, the published settings and, where there is one, the
winner of a rival sweep (of equal budget, with a field fixed) are each trained on the whole training side with seeds that the search has not
used, and answer the test side. Every answer is kept in DIR/report and never asked for again: what was scored once stays as it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from moodcast import bundle as bundles
from moodcast import config, metrics, sweep_page
from moodcast import evaluate as evaluation
from moodcast.cluster import folder as files
from moodcast.cluster import ledger as books
from moodcast.cluster import population
from moodcast.cluster.importance import common_epoch, importances
from moodcast.cluster.ledger import Ledger, Trial
from moodcast.cluster.lockstep import stacked
from moodcast.cluster.retrain import BUNDLE, FRESH, REPORT, Arm, counts_of, tasks, train_missing
from moodcast.cluster.standing import means_over
from moodcast.manifest import Utterance, read_manifest
from moodcast.metrics import Interval
from moodcast.run import Run, run_from_dict, run_to_dict
from moodcast.scores import Answers, Floats

PAGE, DATA, WINNER = "report.html", "report.json", "winner.json"
FEW = 5  # test speakers below which a reader is warned
SIDES = ("rows_sha256", "test_sha256", "target_sha256")
SAME = ("trials", "searcher", "scheduler", "folds", "seeds", "seed", "grace", "factor", "interval", "epochs")  # what makes a budget


def report(
    folder: Path, *, against: Path | None = None, seeds: int = 5, cache: Path | None = None, plain: bool = True, progress: bool = True
) -> dict[str, Any]:
    """Train and score what is missing, and say all of it: DIR/report.json, DIR/report.html, DIR/winner.json and the bundle DIR/winner.

    against: the folder of another sweep of the same rows. seeds: fresh ones an arm. Raises ValueError for a sweep that is not done or has
    no test side, or a rival of other rows; Interrupted at Ctrl-C, after which the same call goes on.
    """
    folder = Path(folder).absolute()
    ledger, rival = Ledger(folder), None if against is None else Ledger(Path(against).absolute())
    for each in (ledger, rival) if rival else (ledger,):
        each.check_count()
        if each.best is None:
            raise ValueError(f"no trial of {each.folder} finished; there is no winner to report on")
    if not (folder / books.TEST_ROWS).is_file():
        whose = "target" if "target_rows" in ledger.settings else "manifest"
        raise ValueError(f"{folder} has no test side: its {whose} had no rows of split 'test', so nothing independent can be said")
    if rival and any(rival.settings.get(key) != ledger.settings.get(key) for key in SIDES):
        raise ValueError(f"{rival.folder} searched on other rows than {folder}; only sweeps of the same rows compare in pairs")
    arms = arms_of(ledger, rival)
    (folder / REPORT).mkdir(exist_ok=True)
    missing = tasks(folder, arms, seeds, tuple(ledger.settings["trust"]), cache)
    train_missing(missing, max(1, arms[0].run.train.threads), progress)
    found = described(ledger, rival, arms, seeds, cache, plain)
    files.write_json(folder / DATA, found)
    write_winner(folder, arms[0])
    sweep_page.write(found, folder / PAGE)
    return found


def arms_of(ledger: Ledger, rival: Ledger | None) -> list[Arm]:
    """The winner, the published settings, and the winner of the rival."""
    best = ledger.best
    first = ledger.trials[0] if ledger.trials[0].origin == "published" else None
    base = run_of(ledger, {})
    arms = [
        Arm("winner", f"trial {best.number} of {ledger.wanted}", stages_of(ledger, best), best),  # type: ignore[union-attr,arg-type]
        Arm("published", "the settings of the job", ((base.train.epochs, base),), first),
    ]
    if rival is not None and (other := rival.best):
        fixed = ", ".join(
            f"{path}={value}" for path, value in rival.settings["fixed"].items() if ledger.settings["fixed"].get(path) != value
        )
        what = f"the best of {rival.wanted} trials" + (f" with {fixed}" if fixed else "")
        arms.append(Arm("rival", what, stages_of(rival, other), other))
    return arms


def stages_of(ledger: Ledger, trial: Trial) -> tuple[tuple[int, Run], ...]:
    """The schedule of a trial: its own settings to the end or, in a population, those of its ancestors first."""
    line = population.lineage(ledger.trials, trial.number)
    return tuple((one.last_epoch, run_of(ledger, one.changes)) for one in line)


def run_of(ledger: Ledger, changes: Mapping[str, Any]) -> Run:
    """The run that a trial trains."""
    return config.replace_at(run_from_dict(ledger.settings["run"], tuple(ledger.settings["trust"])), changes)


def write_winner(folder: Path, winner: Arm) -> None:
    """The winning run as a file that `moodcast train` takes; of a schedule, its last settings, with all of it beside."""
    told: dict[str, Any] = {"run": run_to_dict(winner.run)}
    if len(winner.stages) > 1:
        told["schedule"] = [{"until_epoch": until, "run": run_to_dict(run)} for until, run in winner.stages]
    files.write_json(folder / WINNER, json.loads(json.dumps(told, default=list)))


def described(ledger: Ledger, rival: Ledger | None, arms: Sequence[Arm], seeds: int, cache: Path | None, plain: bool) -> dict[str, Any]:
    """All that the page shows, as plain data."""
    settings = ledger.settings
    bundle = bundles.load(ledger.folder / BUNDLE, tuple(settings["trust"]), verify=False)
    rows, _ = evaluation.scorable(bundle, [replace(row, split="test") for row in read_manifest(ledger.folder / books.TEST_ROWS)], "test")
    scored = {arm.name: counts_of(ledger.folder, arm, rows, seeds) for arm in arms}
    pools = {name: each.sum(0) for name, each in scored.items()}  # [S, K, K] of all seeds together
    tests = {name: metrics.speaker_bootstrap(metrics.uar, pool) for name, pool in pools.items()}
    best, epoch = ledger.best, common_epoch(ledger)
    heard = evaluation.heard_before(bundle, rows, True, cache) if bundle.run.train.allow_leaks else []
    baselines = trivial(bundle, rows, ledger, cache, plain, pools["winner"] / seeds)
    return {
        "format": 1,
        "sweep": {key: value for key, value in settings.items() if key not in ("trust", "run", "format")}
        | {"leaks": [*settings.get("leaks", ()), *heard]},
        "run": settings["run"],
        "folder": ledger.folder.name,
        "winner": best.number if best else None,
        "classes": list(bundle.classes),
        "test": {
            "utterances": len(rows),
            "speakers": len({row.corpus_speaker for row in rows}),
            "seeds": [FRESH + number for number in range(seeds)],
            "arms": [arm_data(arm, tests[arm.name], scored[arm.name]) for arm in arms],
            "differences": [
                {
                    "of": "winner",
                    "minus": arm.name,
                    "uar": plain_interval(metrics.paired_bootstrap(metrics.uar, pools["winner"], pools[arm.name])),
                }
                for arm in arms[1:]
            ],
            "baselines": baselines,
        },
        "optimism": [gap for arm in arms if (gap := optimism(arm, pools[arm.name])) is not None],
        "rival": None if rival is None else rival_data(ledger, rival),
        "common_epoch": epoch,
        "importance": importances(ledger, epoch),
        "trials": [trial_data(trial) for trial in ledger.ended],
        "schedule": [{"until_epoch": one.last_epoch, "changes": one.changes} for one in population.lineage(ledger.trials, best.number)]
        if best and best.parent is not None
        else [],
        "notes": notes(ledger, rival, len({row.corpus_speaker for row in rows})),
    }


def arm_data(arm: Arm, test: Interval, counts: Floats) -> dict[str, Any]:
    """One arm for the page."""
    each = [float(metrics.uar(count.sum(0))) for count in counts]
    return {
        "name": arm.name,
        "what": arm.what,
        "uar": plain_interval(test),
        "seeds": each,
        "spread": float(np.std(each, ddof=1)) if len(each) > 1 else 0.0,
    }


def optimism(arm: Arm, test: Floats) -> dict[str, Any] | None:
    """The inner score of an arm minus its test score: pooled UAR of both, speakers of either drawn apart."""
    trial = arm.trial
    if trial is None or trial.counts is None or trial.state != "finished":
        return None
    inner = stacked(trial.counts)
    draws = [_drawn(counts, seed) for seed, counts in enumerate((inner, test), start=1)]
    low, high = np.nanpercentile(draws[0] - draws[1], [2.5, 97.5])
    gap = Interval(float(metrics.uar(inner.sum(0)) - metrics.uar(test.sum(0))), float(low), float(high))
    return {
        "arm": arm.name,
        "inner": plain_interval(metrics.speaker_bootstrap(metrics.uar, inner)),
        "inner_mean": trial.value,
        "test": plain_interval(metrics.speaker_bootstrap(metrics.uar, test)),
        "gap": plain_interval(gap),
    }


def _drawn(counts: Floats, seed: int) -> Floats:
    """UAR of each resample of the speakers [S, K, K]."""
    return np.asarray(metrics.uar(np.tensordot(metrics.resamples(len(counts), 2000, seed), counts, axes=1)))


def trivial(
    bundle: bundles.Bundle, rows: Sequence[Utterance], ledger: Ledger, cache: Path | None, plain: bool, winner: Floats
) -> list[dict[str, Any]]:
    """What somebody gets who does not listen as a model does, and how far above it the winner is."""
    truth = np.array([bundle.classes.index(str(bundle.run.labels.name(row))) for row in rows], dtype=np.int64)
    votes = evaluation.votes_of(bundle.run.labels, rows)
    blank = Answers(bundle.classes, tuple(rows), truth, np.zeros((len(rows), len(bundle.classes))), votes)
    train = [row for row in read_manifest(ledger.folder / books.ROWS) if bundle.run.labels.name(row) is not None]
    found = []
    for each in evaluation.trivial(blank, train, bundle, plain, cache):
        counts = metrics.by_speaker(truth.tolist(), each.guess.tolist(), blank.speakers, len(bundle.classes))
        own, above = metrics.speaker_bootstrap(metrics.uar, counts), metrics.paired_bootstrap(metrics.uar, winner, counts)
        found.append({"name": each.name, "what": each.what, "uar": plain_interval(own), "above": plain_interval(above)})
    return found


def rival_data(ledger: Ledger, rival: Ledger) -> dict[str, Any]:
    """Another sweep in short, and what makes its budget another one."""
    differ = [key for key in SAME if rival.settings[key] != ledger.settings[key]]
    best = rival.best
    return {
        "folder": rival.folder.name,
        "fixed": rival.settings["fixed"],
        "trials": rival.wanted,
        "inner": best.value if best else None,
        "budget_differs": differ,
        "epochs_trained": [sum(len(t.epochs) for t in each.trials.values()) for each in (ledger, rival)],
    }


def trial_data(trial: Trial) -> dict[str, Any]:
    """A trial for the page."""
    return {
        "number": trial.number,
        "origin": trial.origin,
        "parent": trial.parent,
        "state": trial.state,
        "error": trial.error,
        "value": trial.value if trial.epochs else None,
        "spread": trial.epochs[-1]["spread"] if trial.epochs else None,
        "seconds": round(trial.seconds, 1),
        "changes": trial.changes,
        "epochs": [[line["epoch"], line["value"], line["loss"]] for line in trial.epochs],
    }


def notes(ledger: Ledger, rival: Ledger | None, people: int) -> list[str]:
    """What a reader must know beside the figures."""
    found = [
        "The search saw the training side alone; the test side was answered once by each training, after the search.",
        f"Inner scores: mean UAR over {means_over(ledger)}, after the last epoch; no epoch is chosen.",
        "Intervals: 95 % bootstrap over speakers, 2000 draws, all seeds of a speaker drawn together; differences are paired by speaker.",
    ]
    if "target_rows" in ledger.settings:
        found[0] = (
            "The search heard the target without its labels and was scored on speakers of the source; the target's test side was answered "
            "once by each training, after the search."
        )
    if people < FEW:
        found.append(f"Only {people} test speakers: intervals drawn from so few say little, and who they are decides who wins.")
    if ledger.best is not None and ledger.best.origin == "published":
        found.append("The search found nothing better than the published settings: winner and published are the same run.")
    if rival and (differ := rival_data(ledger, rival)["budget_differs"]):
        found.append(f"The rival had another budget ({', '.join(differ)} differ): the comparison with it is not fair.")
    ends: dict[str, int] = {}
    for trial in ledger.ended:
        ends[trial.state] = ends.get(trial.state, 0) + 1
    found.append("Trials: " + ", ".join(f"{count} {state}" for state, count in sorted(ends.items())) + f" of {ledger.wanted}.")
    return found


def plain_interval(interval: Interval) -> list[float | None]:
    """[value, low, high] for JSON."""
    return [float(value) if math.isfinite(value) else None for value in (interval.value, interval.low, interval.high)]
