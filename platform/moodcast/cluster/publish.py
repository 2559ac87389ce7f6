"""From a trained run to a bundle that others use: scored on held-out speakers, with a model card. Without Ray."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodcast import bundle as bundles
from moodcast import report as pages
from moodcast.bundle import Bundle
from moodcast.cache import open_waves
from moodcast.chunks import samples_of
from moodcast.evaluate import evaluate
from moodcast.manifest import Utterance
from moodcast.provenance import AdaptedTo

TEST = "Scores on held-out speakers (split `test`, seed 0), 95 % intervals by bootstrap over speakers where they are given:"
PROBE_S = 1.6  # the window of the embedded diarizer: speakers are told apart on about this much


def publish(trained: Path, rows: Sequence[Utterance], into: Path, notes: str = "", trust: tuple[str, ...] = ()) -> dict[str, Any]:
    """Score the bundle `trained` on the test split of `rows`, and write it with scores and a card to `into`; the scores.

    A bundle of emotions is scored by `moodcast.evaluate`, one of speakers by the equal error rate of telling two of them apart.
    """
    bundle = bundles.load(trained, trust)
    test: dict[str, Any]
    if bundle.run.labels.source == "speaker":
        test = verification(bundle, rows)
        table = [f"| {name} | {100 * found['eer']:.1f} % | {found['speakers']} | {found['pairs']} |" for name, found in test.items()]
        lines = ["| corpus | equal error rate | held-out speakers | pairs |", "|---|---|---|---|", *table]
    else:
        report = evaluate(bundle, rows, "test")
        test, lines = report.to_dict(), pages.markdown(report)
        del test["bundle"], test["sha256"]  # those of the folder that was scored, not of what is written here
    scores: dict[str, Any] = json.loads(json.dumps({**bundle.scores, "test": test}))
    text = card(bundle, into.name, {TEST: lines}, notes)
    bundles.save(into, bundle.method, bundle.run, bundle.provenance, scores, text, bundle.calibration)
    return scores


def equal_error_rate(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    """Where as many different pairs are accepted as same ones are refused: [P] scores, higher for "same", and the truth [P].

    Linear between the two thresholds where the curves cross. Raises ValueError where one kind of pair is missing.

    >>> equal_error_rate(np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, False, True, False]))
    0.5
    """
    if same.all() or not same.any():
        raise ValueError(f"an equal error rate needs pairs of both kinds; got {int(same.sum())} same and {int((~same).sum())} different")
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # equal scores are accepted together
    refused = 1.0 - np.concatenate([[0], np.cumsum(same[order])[ends]]) / same.sum()
    accepted = np.concatenate([[0], np.cumsum(~same[order])[ends]]) / (~same).sum()
    at = int(np.argmax(accepted >= refused))
    before, after = refused[at - 1] - accepted[at - 1], accepted[at] - refused[at]
    share = before / (before + after)
    return float(accepted[at - 1] + share * (accepted[at] - accepted[at - 1]))


def verification(bundle: Bundle, rows: Sequence[Utterance], window_s: float = PROBE_S) -> dict[str, dict[str, Any]]:
    """Equal error rate of cosine scores by corpus, on the middle `window_s` of test utterances, and how many pairs it rests on.

    Pairs are within a corpus, and within a group where rows have one: across dialogues a corpus may hide who is the same.
    """
    need = samples_of(window_s, bundle.rate)
    known = set(bundle.provenance.speakers)
    test = [row for row in rows if row.split == "test"]
    if heard := sorted({row.corpus_speaker for row in test} & known):
        raise ValueError(f"the bundle was trained on speakers of the test split: {', '.join(heard[:12])}")
    store = open_waves(test, bundle.rate, max_hours=bundle.run.audio.max_hours)
    chosen = [i for i in range(len(test)) if len(store[i]) >= need]
    middles = [np.array(store[i][(len(store[i]) - need) // 2 :][:need]) for i in chosen]
    embeddings = np.stack([answer.embedding for answer in bundle.answer(middles) if answer.embedding is not None]).astype(np.float64)
    found = {}
    for corpus in sorted({test[i].corpus for i in chosen}):
        where = np.array([k for k, i in enumerate(chosen) if test[i].corpus == corpus])
        here = [test[chosen[k]] for k in where]
        first, second = np.triu_indices(len(where), 1)
        speakers, groups = (np.array([name(row) for row in here]) for name in (_speaker, _group))
        inside = groups[first] == groups[second]
        first, second = first[inside], second[inside]
        cosines = (embeddings[where[first]] * embeddings[where[second]]).sum(axis=1)
        rate = equal_error_rate(cosines, speakers[first] == speakers[second])
        found[corpus] = {"eer": rate, "pairs": len(first), "speakers": len(set(speakers)), "window_s": window_s}
    return found


def _speaker(row: Utterance) -> str:
    return row.corpus_speaker


def _group(row: Utterance) -> str:
    return row.group or ""


def adapted_to(known: AdaptedTo) -> str:
    """What a card says of a target that was heard, with or without labels; "" where there was none."""
    if known.unsealed:
        return f"An upper bound, no adaptation: labels of the target {', '.join(known.unsealed)} were used in training."
    if not known.corpora:
        return ""
    also = " The recordings that it answers are among them (transductive)." if known.transductive else ""
    return f"Adapted, without labels, to {', '.join(known.corpora)}: {len(known.speakers)} speakers, {known.hours:.2f} h.{also}"


def card(bundle: Bundle, name: str, told: Mapping[str, Sequence[str]], notes: str = "") -> str:
    """The model card of a bundle: what it is and was trained on, then what is told of it (a sentence: its lines), then notes."""
    known, run = bundle.provenance, bundle.run
    speakers = run.labels.source == "speaker"
    answers = f"an embedding by {len(bundle.classes)} speakers" if speakers else ", ".join(bundle.classes)
    answers += "".join(f", {name} (0 to 1)" for name in run.labels.attributes)
    counts = "" if speakers else "; " + ", ".join(f"{label} {count}" for label, count in known.class_counts.items())
    beside = sum(value.numel() for value in bundle.method.buffers())
    parts = [
        f"# {name}",
        "",
        f"A moodcast bundle. Method: {type(bundle.method).__module__}:{type(bundle.method).__qualname__}, "
        f"{sum(p.numel() for p in bundle.method.parameters())} parameters"
        f"{f' and {beside} numbers that are fitted in one go, or fixed' if beside else ''}. It answers: {answers}.",
        "",
        " ".join(
            [f"Trained on {', '.join(known.corpora)}: {len(known.speakers)} speakers, {known.hours:.2f} h{counts}.", bundle.method.terms()]
        ).rstrip(),
    ]
    if heard := adapted_to(known.adapted_to):
        parts += ["", heard]
    for sentence, lines in told.items():
        parts += ["", sentence, "", *lines]
    return "\n".join([*parts, *(["", notes.strip()] if notes.strip() else []), ""])
