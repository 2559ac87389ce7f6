"""fit: train a run on Ray Train, with any number of workers, and leave a folder with a bundle in it."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchTrainer
from rich.console import Console

from moodcast import attributes, audit, augment
from moodcast import bundle as bundles
from moodcast.cluster import folder as files
from moodcast.cluster import local, tracker
from moodcast.cluster.data import CachedStretches
from moodcast.cluster.features import check_method
from moodcast.cluster.group import group_of
from moodcast.cluster.options import refuse_without_target
from moodcast.cluster.watch import counting, dev_scores, watching
from moodcast.cluster.work import sides, take_weights, work
from moodcast.manifest import Utterance, write_manifest
from moodcast.method import Method, find_method, method_name
from moodcast.run import Run, build, run_to_dict, trust_of
from moodcast.transfer import TransferTask

MAX_FAILURES = 2  # workers that die are started again from the last checkpoint, this often
LOOK_S = 15.0  # how often an elastic run asks whether there is room for more workers
ALLOW = "train.allow_leaks=true"


@dataclass(frozen=True)
class Heard:
    """What a run hears: labelled rows, rows of a target without labels, and what its bundle must say of that target beside them."""

    rows: list[Utterance]
    target: list[Utterance]
    notes: dict[str, Any]


@dataclass(frozen=True)
class Fit:
    """What training left: the run's folder, its bundle, and the metrics of the epoch that became the bundle."""

    folder: Path
    bundle: Path
    metrics: dict[str, Any]


class Interrupted(KeyboardInterrupt):
    """Training was interrupted; the message says where it stands and how to go on."""


class Failed(RuntimeError):
    """The workers of a training failed again and again; the message says of what, where it stands and how to go on."""


def fit(
    run: Run,
    rows: Sequence[Utterance],
    out: Path,
    *,
    name: str | None = None,
    workers: int | tuple[int, int] = 1,
    gpu: bool | None = None,
    resume: Path | None = None,
    progress: bool = True,
    cache: Path | None = None,
    command: str | None = None,
    target: Sequence[Utterance] | None = None,
    transductive: bool = False,
    unsealed: bool = False,
    track: Sequence[str] | None = None,
) -> Fit:
    """Train `run` on the rows whose split is "train" and keep the checkpoint that is best on "dev" (or the last, where there is none).

    target: rows that a method adapts to without labels (`TransferTask.of` says which of them); transductive: to those that will be
    answered. unsealed: train on them with their labels instead, an upper bound, which the bundle says.

    out: where the run's folder is made, under `name` or a name that is new. resume: a run's folder to go on with instead; run and rows
    must be the same. workers share every batch equally; (fewest, most): as many as there is room for, and when nodes come or go all begin
    again from the last checkpoint with another number, which leaves what is learned as it is. gpu: one for each worker; None takes them
    where Ray has enough. cache: where decoded audio is kept. command: what a person types to come here, for the message that says how to
    resume. track: who is told of it beside its folder (`tracker.TRACKERS`); None: TensorBoard, or whoever was told before.

    Raises ValueError for rows that cannot be trained on, speakers on two sides of the split, a name that is taken, a loss that is not
    finite, or a resumed run that is another one; Interrupted (a KeyboardInterrupt) at Ctrl-C or SIGTERM; Failed where workers fail.
    """
    heard = heard_of(run, rows, target, transductive, unsealed)
    rows = heard.rows
    last = None
    if resume is not None:
        files.check_same(Path(resume).absolute(), run, rows, heard.target)
        last = max(files.checkpoints(Path(resume)).values(), default=None)
    check(run, rows, workers, heard.target, cache, None if last is None else bundles.carried(last))
    console = Console(stderr=True, quiet=not progress)
    if resume is None:
        if run.start_from is not None:  # what does not fit is said before Ray starts
            take_weights(build(run, trust_of(run)), run.start_from, run.start_prefixes, trust_of(run))
        folder = files.new_folder(Path(out), name, run)
    else:
        folder = Path(resume).absolute()
        if (done := finished(folder, run)) is not None:
            console.print(f"this run is finished: {done.bundle}", highlight=False)
            return done
    for remark in audit.remarks(rows, run.labels.classes) if rows else ():
        console.print(f"audit: {remark}", highlight=False)
    if not any(row.split == "dev" for row in rows):
        console.print("no dev split: the last checkpoint becomes the bundle", highlight=False)
    try:
        with files.held(folder), local.interruptible():
            return _fit(run, heard, folder, workers, gpu, cache, console, track, fresh=resume is None)
    except KeyboardInterrupt:
        raise Interrupted(_how_to_resume(folder, command)) from None
    except ray.train.TrainingFailedError as error:
        if os.strerror(errno.ENOSPC) in str(error):
            raise ValueError(files.no_space(folder)) from error
        what = f"training failed {MAX_FAILURES + 1} times, last: {_last_line(error)}"
        raise Failed(_how_to_resume(folder, command, what)) from error


def heard_of(
    run: Run, rows: Sequence[Utterance], target: Sequence[Utterance] | None, transductive: bool = False, unsealed: bool = False
) -> Heard:
    """What a run hears of a source and of a target. Raises ValueError where its method wants a target and none came, or the reverse."""
    rows = [replace(row, path=str(Path(row.path).absolute())) for row in rows]
    wanted, name = "target" in method_of(run).streams, method_name(run.method).rpartition(":")[2]
    if target is None:
        if wanted:
            raise ValueError(f"{name} adapts to a target whose labels it does not see: name its manifest, --target FILE (fit: target=rows)")
        refuse_without_target(transductive, unsealed)
        return Heard(rows, [], {})
    if wanted == unsealed:
        why = "hears a target only without labels" if wanted else "learns from labels alone, and a target has none to show"
        raise ValueError(
            f"{name} {why}; methods that adapt (coral, dann, mcc, ...) take --target, and --unseal trains the others on the target's "
            "labels, as an upper bound"
        )
    target = [replace(row, path=str(Path(row.path).absolute())) for row in target]
    task = TransferTask.of(rows, target, transductive=transductive, allow_leaks=run.train.allow_leaks)
    if unsealed:
        more = task.unsealed()
        corpora = {*(row.corpus for row in more)}
        return Heard([*rows, *more], [], {"transductive": transductive, "unsealed": sorted(corpora)})
    return Heard(rows, list(task.adapt), {"transductive": transductive, "unsealed": []})


def check(
    run: Run,
    rows: Sequence[Utterance],
    workers: int | tuple[int, int],
    target: Sequence[Utterance] = (),
    cache: Path | None = None,
    carried: Mapping[str, str] | None = None,
) -> None:
    """Refuse what cannot be trained on: no training rows, classes without any, speakers or copies on two sides, an unequal share.

    carried: as in `check_method`.
    """
    if method_of(run).streams == ("target",):
        _check_source_free(run, workers, target)
    else:
        _check_labelled(run, rows, workers)
    if run.labels.source != "speaker":  # speakers as classes must be on both sides
        audit.guard(audit.leaks_among([*rows, *target], root=cache), run.train.allow_leaks, ALLOW)
    augment.check(run.augment)
    attributes.check(method_of(run), run.spec, run.train.batch_size // run.train.accumulate)
    check_method(run, carried)


def _check_source_free(run: Run, workers: int | tuple[int, int], target: Sequence[Utterance]) -> None:
    if run.start_from is None:
        name = method_name(run.method).rpartition(":")[2]
        raise ValueError(f"{name} hears no labels and begins with weights that were trained on some: start_from=FOLDER names their bundle")
    _check_share(run, workers)


def _check_share(run: Run, workers: int | tuple[int, int]) -> None:
    fewest, most = span(workers)
    if fewest < 1 or most < fewest:
        raise ValueError(f"wanted a number of workers, or the fewest and the most, got {workers}")
    size = run.train.batch_size
    for count in range(fewest, most + 1):
        if size % count:
            multiple = math.lcm(*range(fewest, most + 1))
            them = f"any number of workers from {fewest} to {most}; choose a multiple of {multiple}"
            raise ValueError(
                f"train.batch_size={size} cannot be shared equally by {them if most > fewest else f'{most} workers; choose a multiple'}"
            )
        if (share := size // count) % run.train.accumulate:
            raise ValueError(
                f"a worker's share of {share} utterances cannot be cut into train.accumulate={run.train.accumulate} equal parts"
            )


def span(workers: int | tuple[int, int]) -> tuple[int, int]:
    """The fewest and the most workers."""
    return (workers, workers) if isinstance(workers, int) else workers


def _check_labelled(run: Run, rows: Sequence[Utterance], workers: int | tuple[int, int]) -> None:
    train, _ = sides(rows, run)
    if not train:
        splits, labels = ({getattr(row, name) or "none" for row in rows} for name in ("split", "emotion"))
        raise ValueError(
            f"no utterance to train on among {len(rows)}: wanted split 'train' and a label of the run (labels.classes); found splits: "
            f"{', '.join(sorted(splits))}; labels: {', '.join(sorted(labels))}"
        )
    run.labels.check(train, rows)
    _check_share(run, workers)


def finished(folder: Path, run: Run) -> Fit | None:
    """The result of a run that needs no more training, or None."""
    lines = files.read_lines(folder / files.METRICS)
    if len(lines) < run.train.epochs or not (folder / files.BUNDLE / bundles.SETTINGS).is_file():
        return None
    return Fit(folder, folder / files.BUNDLE, lines[files.kept_epoch(lines, run.train.keep)])


def _fit(
    run: Run,
    heard: Heard,
    folder: Path,
    workers: int | tuple[int, int],
    gpu: bool | None,
    cache: Path | None,
    console: Console,
    track: Sequence[str] | None,
    fresh: bool,
) -> Fit:
    if fresh:
        with _undone(folder):
            leaks = _read_audio(run, heard, cache, console)
            for rows, name in ((heard.rows, files.MANIFEST), (heard.target, files.TARGET)):
                if rows:
                    write_manifest(rows, folder / name)
            files.describe(folder, run, heard.rows, workers, heard.target, heard.notes)
    else:
        leaks = _read_audio(run, heard, cache, console)
    (folder / files.FAILURE).unlink(missing_ok=True)
    (folder / files.PROGRESS).unlink(missing_ok=True)
    for note in (folder / files.CHECKPOINTS).glob("*.json"):
        note.unlink()  # Ray's list of checkpoints: ours is the folder itself, and Ray would refuse that of another release
    fewest, most = span(workers)
    with local.cluster(num_cpus=max(local.usable_cpus(), fewest)):
        with _undone(folder) if fresh else nullcontext():
            with_gpu = _gpu_each(gpu, fewest)
            trainer = _trainer(run, folder, workers, with_gpu, cache, leaks)
            trackers = tracker.opened(folder, track, default=("tensorboard",))
        count = f"{fewest} to {most}" if most > fewest else str(most)
        console.print(f"run {folder}, on {count} {'GPU' if with_gpu else 'CPU'} worker{'s' * (most > 1)}", highlight=False)
        epochs_done = len(files.read_lines(folder / files.METRICS))
        told = tracker.tracking(trackers, lambda: tracker.of_run(folder), console)
        with told, watching(folder, console, epochs_done), local.interruptible():
            try:
                trainer.fit()
            except SystemExit:  # how Ray Train leaves at an interrupt
                raise KeyboardInterrupt from None
            finally:
                for left in folder.glob(".rendezvous-*"):
                    left.unlink(missing_ok=True)
    if failure := files.read_json(folder / files.FAILURE):
        raise ValueError(failure["error"])
    return _keep(run, folder, console)


def _read_audio(run: Run, heard: Heard, cache: Path | None, console: Console) -> tuple[str, ...]:
    """Decode everything once, here, so that the workers only map it; the leaks that were let through, as sentences."""
    read: list[Utterance] = []
    fingerprints: list[str] = []
    train, dev = sides(heard.rows, run)
    with counting("reading audio", console) as tell:
        for side in ([] if method_of(run).streams == ("target",) else train, dev, heard.target):
            if side:
                fingerprints += CachedStretches(side, run, cache, tell).store.fingerprints
                read += side
    found = [] if run.labels.source == "speaker" else audit.leaks_among([*heard.rows, *heard.target], root=cache)
    found += [one for one in audit.leaks_among(read, fingerprints, cache) if one.kind == audit.SAME_SOUND]
    each = {(one.kind, frozenset(one.ids)): one for one in found}  # copies that an audit found are in both
    leaks = audit.guard(list(each.values()), run.train.allow_leaks, ALLOW)
    for leak in leaks:
        console.print(leak, style="bold red", highlight=False)
    return leaks


@contextmanager
def _undone(folder: Path) -> Iterator[None]:
    """A run that could not begin leaves no folder, and its name is free again."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _trainer(run: Run, folder: Path, workers: int | tuple[int, int], gpu: bool, cache: Path | None, leaks: Sequence[str]) -> TorchTrainer:
    config = {
        "run": run_to_dict(run),
        "trust": trust_of(run),
        "folder": str(folder),
        "cache": str(Path(cache).absolute()) if cache else "",
        "start_from": _absolute(run.start_from),
        "leaks": list(leaks),
        "cwd": os.getcwd(),  # where paths of the run begin: an encoder's folder, recordings of noise
    }
    return TorchTrainer(
        work,
        train_loop_config=config,
        torch_config=group_of(gpu, folder),
        scaling_config=ray.train.ScalingConfig(  # type: ignore[call-arg]
            num_workers=workers,  # type: ignore[arg-type]
            use_gpu=gpu,
            resources_per_worker={"CPU": _cpus_each(run, *span(workers)), "GPU": int(gpu)},
            elastic_resize_monitor_interval_s=LOOK_S,
        ),
        run_config=ray.train.RunConfig(
            name=files.CHECKPOINTS,
            storage_path=str(folder),
            failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES),
        ),
    )


def _keep(run: Run, folder: Path, console: Console) -> Fit:
    """Copy the checkpoint that counts to bundle/."""
    lines = files.read_lines(folder / files.METRICS)
    epoch = files.kept_epoch(lines, run.train.keep)
    target, half = folder / files.BUNDLE, folder / f".{files.BUNDLE}"
    shutil.rmtree(half, ignore_errors=True)
    shutil.copytree(files.checkpoint_path(folder, epoch), half, ignore=shutil.ignore_patterns(files.TRAINING))
    bundles.join(half)
    shutil.rmtree(target, ignore_errors=True)
    half.rename(target)  # whole or not there: by it a run is known to be finished
    console.print(f"epoch {epoch + 1} is kept{dev_scores(lines[epoch], ', ')}: {target}", highlight=False)
    return Fit(folder, target, lines[epoch])


def _cpus_each(run: Run, fewest: int, most: int) -> float:
    """Cores a worker: train.threads of them, or an equal share of all that its machine has. Ray sets the worker's threads by it.

    Where their number may change, it is the share of as many as there is room for now.
    """
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    total = sum(nodes)
    if total < fewest:
        raise ValueError(f"{fewest} workers need {fewest} CPUs; this Ray has {total}")
    workers = min(most, total)
    share = next(each for each in range(total // workers, 0, -1) if sum(cpus // each for cpus in nodes) >= workers)
    return min(run.train.threads, share) if run.train.threads else share


def _gpu_each(asked: bool | None, workers: int) -> bool:
    """Whether every worker gets a GPU. Raises ValueError where that was asked for and Ray has too few."""
    there = int(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
    if asked and there < workers:
        asked_for = f"{workers} workers with a GPU each were" if workers > 1 else "a worker with a GPU was"
        raise ValueError(f"{asked_for} asked for; this Ray has {there} GPUs. Take --no-gpu{', or fewer workers' if workers > 1 else ''}")
    return there >= workers if asked is None else asked


def method_of(run: Run) -> type[Method]:
    """The class of the run's method."""
    return find_method(method_name(run.method), trust_of(run))


def _absolute(start_from: str | None) -> str:
    """A path that holds in the workers' own folders; the name of a shipped bundle stays."""
    return "" if start_from is None else str(Path(start_from).absolute()) if Path(start_from).exists() else start_from


def _how_to_resume(folder: Path, command: str | None, what: str = "interrupted") -> str:
    if not folder.is_dir():
        return "interrupted before the run began; nothing is left of it"
    how = f"{command} --resume {folder}" if command else f"fit(run, rows, out, resume=Path({str(folder)!r}))"
    return f"{what}; {files.so_far(folder)}. To go on:\n  {how}"


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
