"""What each training worker does: the epochs of a run, from the last checkpoint on. Called by Ray Train on every rank."""

from __future__ import annotations

import io
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
from torch import Tensor

from moodcast import bundle, metrics
from moodcast.cluster import folder as files
from moodcast.cluster.data import CachedStretches
from moodcast.cluster.features import keep_features, kept
from moodcast.cluster.process import set_up, stand_in
from moodcast.manifest import Utterance, read_manifest
from moodcast.method import Method, find_method, method_name
from moodcast.order import balance_weights
from moodcast.passes import gather_objects, predict
from moodcast.provenance import AdaptedTo, ChosenOn, Provenance, names_of
from moodcast.run import Run, build, run_from_dict
from moodcast.step import Stopped, Trainer, weights_digest
from moodcast.study import calibrate
from moodcast.weights import read as read_weights

EVERY_S = 0.3  # how often a step is told to whoever watches


def work(config: dict[Any, Any]) -> None:
    """Train on this rank until the last epoch.

    A ValueError is the user's to mend, so trying again is no use: it is noted in the folder, where the next attempt, which Ray makes,
    and the driver find it.
    """
    folder = Path(config["folder"])
    if (folder / files.FAILURE).is_file():
        return
    stand_in(config["cwd"])
    context = ray.train.get_context()
    world, rank = context.get_world_size(), context.get_world_rank()
    try:
        Worker(config, folder, world, rank).run_epochs()
    except Stopped as error:  # on all ranks, so all may leave
        if rank == 0:
            files.write_json(folder / files.FAILURE, {"error": str(error)})
    except ValueError as error:
        files.write_json(folder / files.FAILURE, {"error": str(error)})
        if world > 1:
            raise  # the other ranks wait for this one: only a restart frees them
    except OSError as error:
        if error.errno not in files.FULL:
            raise
        with suppress(OSError):  # where not even that fits, the driver finds the reason in what Ray tells it
            files.write_json(folder / files.FAILURE, {"error": files.no_space(folder)})
        raise


class Worker:
    """One rank of a run."""

    def __init__(self, config: Mapping[str, Any], folder: Path, world: int, rank: int) -> None:
        self.run: Run = run_from_dict(config["run"], tuple(config["trust"]))
        self.folder, self.world, self.rank = folder, world, rank
        self.leaks = tuple(config["leaks"])  # what train.allow_leaks let through, as sentences
        self._start_from, self._trust = str(config["start_from"]), tuple(config["trust"])
        set_up(self.run.train.threads)
        self.root = root = Path(config["cache"]) if config["cache"] else None
        train_rows, dev_rows = sides(self.rows_of(files.MANIFEST), self.run)
        target_rows = self.rows_of(files.TARGET)
        self.target = CachedStretches(target_rows, self.run, root, labelled=False) if target_rows else None
        source_free = find_method(method_name(self.run.method), self._trust).streams == ("target",)
        self.labelled = None if source_free else CachedStretches(train_rows, self.run, root)
        self.dev = CachedStretches(dev_rows, self.run, root) if dev_rows else None
        self.calibration = bundle.AS_IT_IS  # of the epoch that ended last
        self.history: list[dict[str, Any]] = []  # the metrics of each epoch so far
        self.trainer = self._trainer(config)
        self.workers = gather_objects({"host": socket.gethostname(), "pid": os.getpid()}, world)
        self.reporter = Reporter(self) if rank == 0 else None

    def rows_of(self, name: str) -> list[Utterance]:
        """The rows of a manifest in the run's folder; none where it has no such manifest."""
        return read_manifest(self.folder / name) if (self.folder / name).is_file() else []

    def run_epochs(self) -> None:
        """From the epoch after the last checkpoint to the end; a checkpoint each."""
        for epoch in range(len(self.history), self.run.train.epochs):
            started = time.monotonic()
            on_step = None if self.reporter is None else self.reporter.step_of(epoch)
            losses = self.trainer.epoch(epoch, on_step)
            line: dict[str, Any] = {"epoch": epoch, "steps": (epoch + 1) * self.trainer.steps}
            line.update({named(name): value for name, value in losses.items()})
            line.update(self._dev_scores())
            line["weights"] = self._agreed_digest()
            line["seconds"] = round(time.monotonic() - started, 3)
            self.history.append(line)
            self._checkpoint(line)

    def _trainer(self, config: Mapping[str, Any]) -> Trainer:
        """A fresh trainer, or the one of the last checkpoint in the folder, which may be newer than what Ray has taken note of."""
        run, weights = self.run, None
        if self.labelled is not None:
            weights = balance_weights([self.labelled.rows[i] for i in self.labelled.owners], run.labels, run.train.balance)
        latest = gather_objects(max(files.checkpoints(self.folder).values(), default=None), self.world)[0]
        method = build(run, tuple(config["trust"]), bundle.carried(latest) if latest else None)
        if latest is None and config["start_from"]:
            take_weights(method, config["start_from"], run.start_prefixes, tuple(config["trust"]))
        first, *others = [side for side in (self.labelled, self.target) if side is not None]
        trainer = Trainer(
            method.to(ray.train.torch.get_device()), run.train, first, weights, self.world, self.rank, target=next(iter(others), None)
        )
        if latest is not None:
            state = torch.load(latest / files.TRAINING, weights_only=True, map_location="cpu")
            trainer.load_state({**state, "method": read_weights(latest)})
            self.history = list(state["history"])
        if name := kept(run, trainer.method):
            heard = [side for side in (self.labelled, self.target, self.dev) if side is not None]
            keep_features(trainer.method, heard, name, self.root, self.world, self.rank, self._encoded)
        if latest is None:
            trainer.fit_once()
        return trainer

    def _encoded(self, done: int, total: int) -> None:
        """Rank 0 tells how many features of its share are there."""
        if self.rank == 0:
            files.write_json(self.folder / files.PROGRESS, {"encoded": done, "of": total})

    def _dev_scores(self) -> dict[str, float]:
        """UAR and accuracy over the dev rows, and the mean CCC of attributes, the same on every rank; nothing without a dev split.

        Sets the epoch's temperature, too.
        """
        if self.dev is None:
            return {}
        labels, size, method = self.run.labels, self.run.train.batch_size, self.trainer.method
        where = (self.world, self.rank, method.on_source)
        given, values = predict(method, self.dev, self.dev.owners, self.dev.seconds, size, *where)
        truth = [labels.classes.index(str(labels.name(row))) for row in self.dev.rows]
        if labels.source != "speaker" and not self.run.train.allow_leaks:  # a temperature wants speakers who were not trained on
            self.calibration = calibrate.of_answers(given, truth, [row.corpus_speaker for row in self.dev.rows])
        counts = metrics.confusion(truth, given.argmax(axis=1).tolist(), len(labels.classes))
        found = {"dev_uar": float(metrics.uar(counts)), "dev_accuracy": float(metrics.accuracy(counts))}
        if values is not None:
            wanted = np.array([labels.values(row) for row in self.dev.rows])
            each = metrics.ccc(metrics.moments(wanted, values).sum(0))
            found |= {"dev_ccc": float(np.nanmean(each))} if np.isfinite(each).any() else {}
        return found

    def _agreed_digest(self) -> str:
        """The digest of the weights. Raises Stopped where ranks have drifted apart."""
        digests = gather_objects(weights_digest(self.trainer.served()), self.world)
        if len(set(digests)) > 1:
            raise Stopped(
                f"the ranks' weights differ after epoch {len(self.history)}: {[digest[:8] for digest in digests]}; a method may "
                "change its weights only through losses, or in hooks by what is the same on every rank (View gathers)"
            )
        return digests[0]

    def _checkpoint(self, line: dict[str, Any]) -> None:
        """Report the epoch; rank 0 with a bundle and what a resumed run needs."""
        told = {name: value for name, value in line.items() if isinstance(value, (int, float))}
        trained = self.trainer.state() if self.reporter is not None or self.trainer.divided else {}
        method = self.trainer.served()
        if self.reporter is None:
            ray.train.report(told)
            return
        epoch = line["epoch"]
        place = files.checkpoint_path(self.folder, epoch)
        half = place.with_name(f".{place.name}")
        before = max(files.checkpoints(self.folder).values(), default=None)
        shutil.rmtree(half, ignore_errors=True)
        scores = {"epoch": epoch, "dev": {name.removeprefix("dev_"): line[name] for name in line if name.startswith("dev_")}}
        frozen = [name for name, value in self.trainer.method.named_parameters() if not value.requires_grad]
        state = io.BytesIO()  # torch's own writer hides a full disk behind another error
        torch.save({**trained, "method": {}, "history": self.history}, state)  # the weights lie in the bundle
        try:
            bundle.save(half, method, self.run, self.provenance(), scores, calibration=self.calibration, apart=frozen, before=before)
            (half / files.TRAINING).write_bytes(state.getbuffer())
        except OSError:
            shutil.rmtree(half, ignore_errors=True)
            raise
        half.rename(place)
        wanted = {epoch, files.kept_epoch(self.history, self.run.train.keep)}
        for old, path in files.checkpoints(self.folder).items():
            if old not in wanted:
                shutil.rmtree(path)
        self.reporter.epoch(line)
        ray.train.report(
            told,
            checkpoint=ray.train.Checkpoint.from_directory(str(place)),
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.NO_UPLOAD,  # it is in its place already
        )

    def provenance(self) -> Provenance:
        """Who and what this run is trained on, and what the bundle was that it started from."""
        if not hasattr(self, "_provenance"):
            own = provenance_of(self.labelled, self.run, self.leaks, self.dev, self.target, files.read_json(self.folder / files.RUN))
            before = max(files.checkpoints(self.folder).values(), default=None) or self._start_from
            self._provenance = inherited(own, bundle.load(before, self._trust, verify=False).provenance) if before else own
        return self._provenance


class Reporter:
    """What rank 0 tells: JSON lines, and where training is now. Trackers (tracker.py) tell them further."""

    def __init__(self, worker: Worker) -> None:
        self.worker, self.folder = worker, worker.folder
        self.first = len(worker.history)
        self.started = self.told = time.monotonic()
        (self.folder / files.METRICS).unlink(missing_ok=True)
        for line in worker.history:  # an epoch that was told but never became a checkpoint is told again
            files.append_line(self.folder / files.METRICS, line)
        files.append_line(self.folder / files.ATTEMPTS, {"epoch": self.first, "time": time.time(), "workers": worker.workers})

    def step_of(self, epoch: int) -> Any:
        """A callback for the steps of an epoch: now and then, and always the first, say where training is."""

        def on_step(step: int, terms: dict[str, Tensor]) -> None:
            now = time.monotonic()
            if step and now - self.told < EVERY_S:
                return
            self.told = now
            self._progress(epoch, step + 1, {named(name): float(term) for name, term in terms.items()})

        return on_step

    def epoch(self, line: dict[str, Any]) -> None:
        """The metrics of an epoch."""
        files.append_line(self.folder / files.METRICS, line)
        self._progress(line["epoch"], self.worker.trainer.steps, {k: v for k, v in line.items() if k.startswith("loss")})

    def _progress(self, epoch: int, step: int, losses: dict[str, float]) -> None:
        train, steps = self.worker.run.train, self.worker.trainer.steps
        done = (epoch - self.first) * steps + step
        left = (train.epochs - epoch) * steps - step
        data = {
            "epoch": epoch,
            "epochs": train.epochs,
            "step": step,
            "steps": steps,
            "losses": losses,
            "dev_uar": next((line.get("dev_uar") for line in reversed(self.worker.history)), None),
            "left_s": (time.monotonic() - self.started) / done * left,
            "workers": self.worker.workers,
        }
        files.write_json(self.folder / files.PROGRESS, data)


def named(term: str) -> str:
    """What a loss term is called in metrics: "loss" is the weighted sum, "loss_classes" a term."""
    return term if term == "loss" else f"loss_{term}"


def sides(rows: Sequence[Utterance], run: Run) -> tuple[list[Utterance], list[Utterance]]:
    """The rows to train on, and those that choose the checkpoint: what has a target, and what has a reference class."""
    train = [row for row in rows if row.split == "train" and run.labels.target(row) is not None]
    dev = [row for row in rows if row.split == "dev" and run.labels.name(row) is not None and run.labels.target(row) is not None]
    return train, dev


def provenance_of(
    data: CachedStretches | None,
    run: Run,
    leaks: tuple[str, ...] = (),
    dev: CachedStretches | None = None,
    target: CachedStretches | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Provenance:
    """What a bundle says it was trained on, what its epoch and temperature were chosen on, and which leaks were let through.

    target: what it heard without labels; notes: "transductive" and "unsealed" of it. data is None where it heard no labels at all.
    """
    rows = [] if data is None else data.rows
    speakers, groups, fingerprints = _heard(data)
    told = notes or {}
    return Provenance(
        corpora=tuple(sorted({row.corpus for row in rows})),
        speakers=speakers,
        groups=groups,
        fingerprints=fingerprints,
        class_counts=dict(sorted(Counter(str(run.labels.name(row)) for row in rows).items())),
        hours=_hours(data),
        made_with={"ray": ray.__version__},
        leaks=leaks,
        chosen_on=ChosenOn(*_heard(dev)),
        adapted_to=adapted_to(target, bool(told.get("transductive", False)), tuple(told.get("unsealed", ()))),
    )


def adapted_to(target: CachedStretches | None, transductive: bool = False, unsealed: tuple[str, ...] = ()) -> AdaptedTo:
    """Whom a bundle heard without labels."""
    speakers, groups, fingerprints = _heard(target)
    corpora = () if target is None else tuple(sorted({row.corpus for row in target.rows}))
    return AdaptedTo(corpora, speakers, groups, fingerprints, _hours(target), transductive, unsealed)


def _hours(side: CachedStretches | None) -> float:
    return 0.0 if side is None else round(float(side.seconds.sum()) / 3600, 3)


def _heard(side: CachedStretches | None) -> tuple[tuple[str, ...], ...]:
    """Speakers, groups and fingerprints of a side, each once."""
    return names_of([], []) if side is None else names_of(side.rows, side.store.fingerprints)


def inherited(own: Provenance, given: Provenance) -> Provenance:
    """Weights that start from a bundle have heard what it has heard; class counts and hours stay those of this training, if it has any."""
    mine, theirs = own.adapted_to, given.adapted_to
    return replace(
        own,
        corpora=_together(own.corpora, given.corpora),
        speakers=_together(own.speakers, given.speakers),
        groups=_together(own.groups, given.groups),
        fingerprints=_together(own.fingerprints, given.fingerprints),
        class_counts=own.class_counts or given.class_counts,
        hours=own.hours or given.hours,
        leaks=tuple(dict.fromkeys((*given.leaks, *own.leaks))),
        chosen_on=ChosenOn(*map(_together, astuple(own.chosen_on), astuple(given.chosen_on))),
        adapted_to=AdaptedTo(
            corpora=_together(mine.corpora, theirs.corpora),
            speakers=_together(mine.speakers, theirs.speakers),
            groups=_together(mine.groups, theirs.groups),
            fingerprints=_together(mine.fingerprints, theirs.fingerprints),
            hours=mine.hours or theirs.hours,
            transductive=mine.transductive or theirs.transductive,
            unsealed=_together(mine.unsealed, theirs.unsealed),
        ),
    )


def _together(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({*one, *other}))


def take_weights(method: Method, start_from: str, prefixes: Sequence[str], trust: tuple[str, ...]) -> list[str]:
    """Copy the weights of a bundle whose names begin with one of the prefixes into `method`; the names that were copied.

    Raises ValueError where nothing begins so, a weight does not fit, or weights would answer classes or attributes by other names.
    """
    begun = bundle.load(start_from, trust)
    given, own = begun.method.state_dict(), method.state_dict()
    wanted = [name for name in given if name.startswith(tuple(prefixes) or ("",))]
    if not wanted:
        raise ValueError(f"start_from={start_from}: no weight begins with {tuple(prefixes)}; it has {sorted(given)[:20]}")
    for name in wanted:
        if name not in own or own[name].shape != given[name].shape:
            here = f"shape {tuple(own[name].shape)}" if name in own else "no such weight"
            raise ValueError(
                f"start_from={start_from}: {name} has shape {tuple(given[name].shape)} there and {here} in this run; "
                "leave it out with start_prefixes, or use the same settings and classes"
            )
    for axis in ("classes", "attributes"):
        theirs, ours = getattr(begun.run.labels, axis), getattr(method.spec, axis)
        along = _along(begun, axis, trust) if theirs and theirs != ours else set()
        if found := [name for name in wanted if name in along]:
            raise ValueError(
                f"start_from={start_from}: {', '.join(found[:3])} answer the {axis} {','.join(theirs)} in this order, and this run has "
                f"{','.join(ours)}; set labels.{axis}={','.join(theirs)}, or leave them out with start_prefixes"
            )
    method.load_state_dict({**own, **{name: given[name] for name in wanted}})
    return wanted


def _along(begun: bundle.Bundle, axis: str, trust: tuple[str, ...]) -> set[str]:
    """The weights of a bundle with an axis of its classes, or of its attributes: those that one more of them makes larger."""
    labels = begun.run.labels
    one_more: dict[str, Any] = {axis: (*getattr(labels, axis), "one more")}
    larger = build(replace(begun.run, labels=replace(labels, **one_more)), trust, begun.method.files()).state_dict()
    return {name for name, value in begun.method.state_dict().items() if value.shape != larger[name].shape}
