"""A recipe scored across speaker folds: trained k times, each time without other speakers, and scored on all of them together.

A folder holds it: folds.json (which run on which rows, so that only the same is gone on with), fold0, fold1, ... (a run each), and
fold0.npz, ... (what each answered to its speakers). A second call with the same name trains only what is missing. Every fold tests on its
own speakers, chooses its checkpoint and fits its temperature on those of the next, and trains on the rest. Shapes: N utterances, K classes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from moodcast import audit, baselines, scores
from moodcast import bundle as bundles
from moodcast import evaluate as evaluation
from moodcast.cache import open_waves
from moodcast.cluster import folder as files
from moodcast.cluster import local
from moodcast.cluster.train import ALLOW, Failed, Interrupted, fit, method_of
from moodcast.cluster.watch import counting
from moodcast.manifest import Utterance, fold_splits, read_manifests
from moodcast.method import method_name
from moodcast.run import Run, run_to_dict, trust_of
from moodcast.scores import Answers, Baseline, Floats, Report
from moodcast.whole import whole

ABOUT = "folds.json"


@dataclass(frozen=True)
class Fold:
    """What one fold answered to its own speakers (`ids`); baselines by name; prior and train votes [K] of what it was trained on.

    attributes [N, A], where the recipe answers some.
    """

    ids: tuple[str, ...]
    probabilities: Floats
    prior: Floats
    train_votes: Floats
    guesses: dict[str, NDArray[np.int64]]
    what: dict[str, str]
    sha256: str
    leaks: tuple[str, ...]
    attributes: Floats | None = None


def cross_validate(
    run: Run,
    manifests: Sequence[str | Path] | Sequence[Utterance],
    k: int,
    *,
    out: Path = Path("runs"),
    name: str = "folds",
    seed: int = 0,
    workers: int = 1,
    against: str | Path | None = None,
    plain: bool = True,
    progress: bool = True,
    cache: Path | None = None,
) -> Report:
    """Train `run` in k speaker folds and score what each answers to the speakers it has not heard; the report has a slice a fold, too.

    manifests: their rows, or rows; splits in them are not used. seed: of the folds (the run's own is train.seed). out/name: where the
    folds are kept, and gone on with. against: the folder of other folds of the same rows, k and seed, for paired differences.

    Raises ValueError for k below 3, a method that adapts or learns speakers, a folder of another recipe, a full disk, or what `fit` and
    `evaluate` refuse; Interrupted at Ctrl-C; Failed. Where not even the first could begin, no folder is left.
    """
    if "target" in method_of(run).streams:
        raise ValueError(
            f"{method_name(run.method).rpartition(':')[2]} adapts to a target, and folds are of methods that learn from labels alone: "
            "train it with --target FILE (fit: target=rows) and score its bundle"
        )
    if run.labels.source == "speaker":
        raise ValueError("speakers are what this job learns, so it cannot answer those of a fold that it has not heard")
    came = read_manifests(manifests)
    rows = _rows(run, came)
    splits = list(fold_splits(rows, k, seed))
    refuse_heard(run, rows)
    home = (Path(out) / name).absolute()
    compared = all(_compared(home / f"fold{test}.npz") for test in range(k))
    leaks = leaks_of(run, rows, splits, cache, progress, listen=not compared)
    other = None if against is None else pooled(rows, run, load(Path(against), rows, k, seed, run.labels.classes))
    _same(home, run, rows, k, seed)
    try:
        with local.cluster(num_cpus=max(local.usable_cpus(), workers)):
            done = [_fold(run, split, home, test, workers, plain, progress, cache, leaks) for test, split in enumerate(splits)]
    except BaseException:
        if [path.name for path in home.iterdir()] == [ABOUT]:  # nothing could begin: the name is free again
            shutil.rmtree(home)
        raise
    done = [replace(one, leaks=(*leaks, *one.leaks)) for one in done]  # folds of before did not note what they share with others
    report = report_of(run, rows, done, name, other, None if against is None else Path(against).name, plain)
    return replace(report, skipped=dict(Counter(str(row.emotion) for row in came if run.labels.name(row) is None)))


def leaks_of(
    run: Run,
    rows: Sequence[Utterance],
    splits: Sequence[Sequence[Utterance]],
    cache: Path | None,
    progress: bool = True,
    listen: bool = True,
) -> tuple[str, ...]:
    """The same sound in several folds, as sentences. Raises ValueError for it unless train.allow_leaks: some fold would hear it before.

    listen=False: only copies that audits have found, as where the same samples were looked for before.
    """
    fold_of = {row.id: f"fold {test}" for test, split in enumerate(splits) for row in split if row.split == "test"}
    apart = [replace(row, split=fold_of[row.id]) for row in rows]

    def refused(fingerprints: Sequence[str] | None) -> tuple[str, ...]:
        same = [found for found in audit.leaks_among(apart, fingerprints, cache) if found.kind == audit.SAME_SOUND]
        return audit.guard(same, run.train.allow_leaks, ALLOW)

    noted = refused(None)
    if not listen:
        return noted
    with counting("reading audio", Console(stderr=True, quiet=not progress)) as tell:
        return refused(open_waves(rows, run.audio.rate, cache, run.audio.max_hours, tell).fingerprints)


def refuse_heard(run: Run, rows: Sequence[Utterance]) -> None:
    """Raises ValueError where the bundle that training would start from has heard speakers to be scored."""
    if heard := heard_at_start(run, rows):
        raise ValueError(
            f"start_from={run.start_from} has heard {len(heard)} of the speakers or dialogues that would be scored "
            f"({', '.join(heard[:6])}{', ...' if len(heard) > 6 else ''}); start from a bundle of other corpora"
        )


def heard_at_start(run: Run, rows: Sequence[Utterance]) -> list[str]:
    """The speakers and dialogues of these rows that the bundle has heard, with labels or without, that training would start from."""
    if run.start_from is None:
        return []
    return evaluation.trained_speakers(bundles.load(run.start_from, trust_of(run), verify=False), rows)


def load(home: Path, rows: Sequence[Utterance], k: int, seed: int, classes: Sequence[str]) -> list[Fold]:
    """The answers of finished folds. Raises ValueError where there are none, or they are of other rows, k, seed or classes."""
    about = files.read_json(home / ABOUT)
    wanted = {"k": k, "seed": seed, "rows_sha256": files.rows_digest(_unsplit(rows))}
    if about is None or {key: about.get(key) for key in wanted} != wanted:
        raise ValueError(f"{home} does not hold {k} folds of the same rows with seed {seed}; only those can be compared in pairs")
    if (theirs := about["run"]["labels"]["classes"]) != list(classes):
        raise ValueError(f"{home} answers {', '.join(theirs)}, in this order, wanted {', '.join(classes)}: only the same classes compare")
    missing = [i for i in range(k) if not (home / f"fold{i}.npz").is_file()]
    if missing:
        raise ValueError(f"{home}: folds {missing} are not finished; the command that made the others goes on with them")
    return [_read(home / f"fold{i}.npz") for i in range(k)]


def report_of(
    run: Run,
    rows: Sequence[Utterance],
    done: Sequence[Fold],
    name: str,
    other: Answers | None = None,
    against: str | None = None,
    plain: bool = True,
) -> Report:
    """The report over all folds together, corpus by corpus, and fold by fold."""
    answers = pooled(rows, run, done)
    where = {key: i for i, fold in enumerate(done) for key in fold.ids}
    which = np.array([where[row.id] for row in answers.rows])
    names = [key for key in done[0].guesses if all(key in fold.guesses for fold in done)]
    what = {key: " or ".join(dict.fromkeys(fold.what[key] for fold in done)) for key in names}  # the commonest class differs by fold
    besides = [Baseline(key, what[key], _in_order(answers, done, [fold.guesses[key] for fold in done])) for key in names]
    named = baselines.speaker_name(answers.truth, answers.speakers, len(answers.classes))
    besides = [*besides[:1], *([named] if named else []), *besides[1:]]
    flags = tuple(dict.fromkeys(leak for fold in done for leak in fold.leaks))
    votes = np.stack([fold.train_votes for fold in done])[which]
    independent = () if flags else ("every speaker was answered by a bundle that had not heard them",)
    return Report(
        bundle=f"{name}: {len(done)} folds of {method_name(run.method).rpartition(':')[2]}",
        sha256=hashlib.sha256("".join(fold.sha256 for fold in done).encode()).hexdigest(),
        split=f"{len(done)} speaker folds",
        classes=answers.classes,
        slices=scores.score_all(
            answers,
            besides,
            np.stack([fold.prior for fold in done])[which],
            None if np.isnan(votes).any() else votes,
            other,
            flags,
            [(f"fold {i}", "fold", which == i) for i in range(len(done))],
        ),
        skipped={},
        notes=(*evaluation.notes(answers.rows, answers.rows, plain, bool(flags)), *independent),
        flags=flags,
        against=against,
        answers=answers,
    )


def pooled(rows: Sequence[Utterance], run: Run, done: Sequence[Fold]) -> Answers:
    """The answers of all folds as one, in the order of the rows that have a class."""
    labels = run.labels
    scored = {key for fold in done for key in fold.ids}
    known = [row for row in rows if row.id in scored]
    truth = np.array([labels.classes.index(str(labels.name(row))) for row in known], dtype=np.int64)
    blank = Answers(labels.classes, tuple(known), truth, np.zeros((len(known), len(labels.classes))), evaluation.votes_of(labels, known))
    whole = replace(blank, probabilities=_in_order(blank, done, [fold.probabilities for fold in done]))
    rated = [fold.attributes for fold in done if fold.attributes is not None]
    if len(rated) < len(done):
        return whole
    wanted = np.array([labels.values(row) for row in known])
    return replace(whole, attribute_names=labels.attributes, attributes=_in_order(blank, done, rated), attribute_truth=wanted)


def _in_order(answers: Answers, done: Sequence[Fold], values: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """What folds say of their ids, in the order of the answers' rows."""
    found = {key: value for fold, part in zip(done, values, strict=True) for key, value in zip(fold.ids, part, strict=True)}
    return np.array([found[row.id] for row in answers.rows])


def _fold(
    run: Run,
    rows: list[Utterance],
    home: Path,
    test: int,
    workers: int,
    plain: bool,
    progress: bool,
    cache: Path | None,
    leaks: tuple[str, ...] = (),
) -> Fold:
    """Train and answer one fold, or read what it answered before. leaks: what was let through between folds."""
    kept = home / f"fold{test}.npz"
    if kept.is_file():
        return _read(kept)
    folder = home / f"fold{test}"
    begun = files.going_on(home, folder.name)
    try:
        trained = fit(
            run,
            rows,
            home,
            name=None if begun else folder.name,
            resume=begun,
            workers=workers,
            progress=progress,
            cache=cache,
        )
    except Interrupted:
        raise Interrupted(f"interrupted in fold {test}; the same command goes on from its last checkpoint ({folder})") from None
    except Failed as error:
        what = str(error).partition("\n")[0].removesuffix(" To go on:")
        raise Failed(f"in fold {test} {what} The same command goes on from there") from error
    except ValueError as error:
        said, full, _ = str(error).partition(files.ROOM)
        if not full:
            raise
        raise ValueError(f"fold {test}: {said}{full}the same command goes on") from error
    bundle = bundles.load(trained.bundle, trust_of(run))
    known, _ = evaluation.scorable(bundle, rows, "test")
    answers = evaluation.answer(bundle, known, allow_leaks=run.train.allow_leaks, root=cache)
    train = [row for row in rows if row.split == "train" and run.labels.name(row) is not None]
    besides = [found for found in evaluation.trivial(answers, train, bundle, plain, cache) if found.name != "speaker's name"]
    votes = evaluation.votes_mean(run.labels, train)
    fold = Fold(
        ids=tuple(row.id for row in known),
        probabilities=answers.probabilities,
        prior=evaluation.prior(bundle, answers),
        train_votes=np.full(len(bundle.classes), np.nan) if votes is None else votes,
        guesses={found.name: found.guess for found in besides},
        what={found.name: found.what for found in besides},
        sha256=bundle.sha256,
        leaks=(*leaks, *bundle.provenance.leaks, *evaluation.chosen_before(bundle, known, cache)),
        attributes=answers.attributes,
    )
    _write(kept, fold)
    return fold


def _write(path: Path, fold: Fold) -> None:
    arrays: dict[str, NDArray[Any]] = {f"guess:{name}": guess for name, guess in fold.guesses.items()}
    if fold.attributes is not None:
        arrays["attributes"] = fold.attributes
    told = json.dumps({"what": fold.what, "sha256": fold.sha256, "leaks": fold.leaks, "compared": True})
    with whole(path) as half, half.open("wb") as file:
        np.savez(
            file,
            ids=np.array(fold.ids),
            probabilities=fold.probabilities,
            prior=fold.prior,
            train_votes=fold.train_votes,
            told=np.array(told),
            allow_pickle=False,
            **arrays,
        )


def _compared(path: Path) -> bool:
    """Whether a fold is finished, and its leaks hold what it shares with other folds."""
    if not path.is_file():
        return False
    with np.load(path, allow_pickle=False) as found:
        return bool(json.loads(str(found["told"])).get("compared"))


def _read(path: Path) -> Fold:
    with np.load(path, allow_pickle=False) as found:
        told = json.loads(str(found["told"]))
        return Fold(
            ids=tuple(found["ids"].tolist()),
            probabilities=found["probabilities"],
            prior=found["prior"],
            train_votes=found["train_votes"],
            guesses={key.removeprefix("guess:"): found[key] for key in found.files if key.startswith("guess:")},
            what=told["what"],
            sha256=told["sha256"],
            leaks=tuple(told["leaks"]),
            attributes=found["attributes"] if "attributes" in found.files else None,
        )


def _rows(run: Run, came: Sequence[Utterance]) -> list[Utterance]:
    """The rows of which folds are made: those with a class, which are scored, or a target, which are trained on, without a split."""
    labels = run.labels
    rows = [row for row in came if labels.name(row) is not None or labels.target(row) is not None]
    if not any(labels.name(row) is not None for row in rows):
        raise ValueError(f"none of the rows has one of the classes {labels.classes}; there is nothing to train on")
    return _unsplit(rows)


def _unsplit(rows: Sequence[Utterance]) -> list[Utterance]:
    return [replace(row, split=None, path=str(Path(row.path).absolute())) for row in rows]


def _same(home: Path, run: Run, rows: Sequence[Utterance], k: int, seed: int) -> None:
    """Note what these folds are of, or refuse those of another recipe."""
    wanted = json.loads(json.dumps({"k": k, "seed": seed, "rows_sha256": files.rows_digest(rows), "run": run_to_dict(run)}))
    about = files.read_json(home / ABOUT)
    if about is None:
        if home.exists() and any(home.iterdir()):
            raise ValueError(f"{home} holds something else; choose another name")
        home.mkdir(parents=True, exist_ok=True)
        files.write_json(home / ABOUT, wanted)
    elif (about := {**about, "run": files.as_now(about.get("run", {}), run)}) != wanted:
        differ = sorted(key for key in wanted if about.get(key) != wanted[key])
        raise ValueError(f"{home} holds folds of something else ({', '.join(differ)} differ); choose another name for these")
