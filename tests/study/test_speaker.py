"""Speaker-adaptive answers: a speaker's bias goes away, one emotion stays one emotion, and the verdict says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moodcast.answer import Answer
from moodcast.bundle import load, save
from moodcast.methods.erm import Erm
from moodcast.run import Run, build
from moodcast.study import speaker
from moodcast.study.speaker import FEW, HIGH, LOW, adapt, adapt_answers, adapted, usual

K = 4


def log_softmax(values: np.ndarray) -> np.ndarray:
    return values - np.logaddexp.reduce(values, axis=-1, keepdims=True)


def made(truth: np.ndarray, bias: np.ndarray, sharp: float = 3.0, noise: float = 1.0, seed: int = 0) -> np.ndarray:
    """Log-probabilities of somebody whose logits are right but for noise and a bias of the speaker."""
    rng = np.random.default_rng(seed)
    return log_softmax(sharp * np.eye(K)[truth] + noise * rng.standard_normal((len(truth), K)) + bias)


def right(logs: np.ndarray, truth: np.ndarray) -> float:
    return float((logs.argmax(1) == truth).mean())


MIXED = np.arange(40) % K
BIAS = np.array([3.0, 0.0, -1.0, -2.0])


def test_a_bias_of_the_speaker_goes_away() -> None:
    logs = made(MIXED, BIAS)
    better, of = adapt(logs)
    assert of.mixed == 1.0
    assert right(logs, MIXED) < 0.7
    assert right(better, MIXED) > 0.9
    assert "centred on this speaker" in of.why


def test_recordings_of_one_emotion_are_left_alone() -> None:
    """Here plain centring would call nearly all of them something else."""
    for k in range(K):
        truth = np.full(20, k)
        logs = made(truth, np.zeros(K), noise=0.4, seed=k)
        same, of = adapt(logs)
        assert of.mixed == 0.0
        np.testing.assert_allclose(same, logs)
        assert right(log_softmax(logs - logs.mean(0)), truth) < 0.6
        assert "too much alike" in of.why


def test_an_unbiased_speaker_loses_next_to_nothing() -> None:
    logs = made(MIXED, np.zeros(K))
    assert right(adapt(logs)[0], MIXED) >= right(logs, MIXED) - 0.03


def test_the_fewer_recordings_the_less_is_taken_away() -> None:
    logs = made(MIXED, BIAS)
    for num in (4, 8, 16, 40):
        given = logs[:num] - logs[:num].mean(1, keepdims=True)
        np.testing.assert_allclose(usual(logs[:num]).centre, num / (num + FEW) * given.mean(0))


@pytest.mark.parametrize("num", [0, 1])
def test_one_recording_says_nothing_of_what_is_usual(num: int) -> None:
    logs = made(MIXED, BIAS)[:num].reshape(num, K)
    of = usual(logs)
    assert of.mixed == 0.0
    assert "nothing of what is usual" in of.why
    np.testing.assert_array_equal(adapted(made(MIXED, BIAS), of), made(MIXED, BIAS))


def test_what_was_learnt_answers_recordings_that_were_not_given() -> None:
    logs, unheard = made(MIXED, BIAS), made(MIXED, BIAS, seed=9)
    assert right(adapted(unheard, usual(logs)), MIXED) > right(unheard, MIXED) + 0.2


def test_the_guard_opens_by_degrees() -> None:
    """Between the two bounds the answer moves with the verdict, so that one more recording never makes it jump."""
    found = [usual(made(MIXED, BIAS, sharp=sharp, noise=0.3)) for sharp in np.linspace(0.5, 4, 36)]
    between = [of for of in found if LOW < of.information < HIGH]
    assert between
    for of in between:
        assert of.mixed == pytest.approx((of.information - LOW) / (HIGH - LOW))
        assert f"{of.mixed:.2f}" in of.why
    assert sorted(of.information for of in found) == [of.information for of in found]


def test_whoever_knows_that_emotions_are_mixed_is_believed() -> None:
    logs = made(MIXED, BIAS, sharp=0.3, noise=0.3)
    assert usual(logs).mixed == 0.0
    of = usual(logs, known_mixed=True)
    assert (of.mixed, of.information) == (1.0, usual(logs).information)
    assert "known to be of mixed emotions: answers are centred" in of.why
    np.testing.assert_allclose(adapted(logs, of), log_softmax(logs - of.centre))
    alone = usual(logs[:1], known_mixed=True)
    assert alone.mixed == 0.0
    assert "nothing of what is usual" in alone.why


def test_a_half_open_guard_takes_half_away() -> None:
    logs = made(MIXED, BIAS)
    of = replace(usual(logs), mixed=0.5)
    np.testing.assert_allclose(adapted(logs, of), log_softmax(logs - 0.5 * of.centre))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(2, 7), st.integers(0, 10_000))
def test_answers_stay_distributions_in_any_order(num: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logs = log_softmax(rng.normal(0, 3, (num, classes)))
    better, of = adapt(logs)
    np.testing.assert_allclose(np.exp(better).sum(1), 1.0)
    assert 0.0 <= of.mixed <= 1.0
    assert of.information <= np.log(classes) * num / (num - 1) + 1e-9
    order = rng.permutation(num)
    np.testing.assert_allclose(adapt(logs[order])[0], better[order], atol=1e-9)
    classes_order = rng.permutation(classes)
    np.testing.assert_allclose(adapt(logs[:, classes_order])[0], better[:, classes_order], atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_a_bias_does_not_change_the_verdict(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logs = log_softmax(rng.normal(0, 2, (9, K)))
    moved = log_softmax(logs + rng.normal(0, 1, K))
    assert usual(moved).information == pytest.approx(usual(logs).information, abs=1e-6)


def test_a_class_of_probability_zero_does_no_harm() -> None:
    with np.errstate(divide="ignore"):
        better, _ = adapt(np.log(np.eye(K)[MIXED]))
    assert np.isfinite(better).all()
    assert right(better, MIXED) == 1.0


@pytest.mark.parametrize("wrong", [np.zeros(4), np.full((3, 1), -0.1), np.full((3, 4), 0.5), np.full((3, 4), np.nan)])
def test_what_is_no_log_probability_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="log-probabilities"):
        usual(wrong)


def answers_of(logs: np.ndarray) -> list[Answer]:
    classes = ("angry", "happy", "neutral", "sad")
    return [Answer(classes, 1.0, np.exp(row).astype(np.float32), ((0.0, 1.0),), np.exp(row[None]).astype(np.float32)) for row in logs]


def test_answers_of_a_bundle_and_their_chunks_move_together() -> None:
    logs = made(MIXED, BIAS)
    found, of = adapt_answers(answers_of(logs))
    better, _ = adapt(logs)
    assert of.mixed == 1.0
    for answer, row in zip(found, better, strict=True):
        np.testing.assert_allclose(answer.emotion, np.exp(row), atol=1e-5)
        np.testing.assert_allclose(answer.chunk_emotion[0], answer.emotion, atol=1e-5)
    some, _ = adapt_answers(answers_of(logs)[:3], given=answers_of(logs))
    np.testing.assert_allclose(some[2].emotion, found[2].emotion, atol=1e-6)


def test_answers_that_are_left_alone_are_the_very_same() -> None:
    answers = answers_of(made(np.full(20, 1), np.zeros(K), noise=0.4))
    found, of = adapt_answers(answers)
    assert of.mixed == 0.0
    assert all(ours is theirs for ours, theirs in zip(found, answers, strict=True))


def test_a_bundle_without_classes_cannot_be_centred() -> None:
    with pytest.raises(ValueError, match="answers no classes"):
        adapt_answers([Answer(("a", "b"), 1.0)])


def test_a_bundle_answers_recordings_of_one_speaker_together(
    tmp_path: Path, write_wav: Callable[..., Path], speechlike: Callable[..., np.ndarray]
) -> None:
    run = Run(method=Erm.Config(width=16, channels=4))
    bundle = load(save(tmp_path / "b", build(run), run))
    files = [write_wav(f"{i}.wav", speechlike(0.6, seed=i)) for i in range(3)]
    together, of = bundle.predict_speaker(files)
    assert of.num == 3
    assert of.mixed == 0.0  # an untrained bundle answers all alike
    for answer, file in zip(together, files, strict=True):
        np.testing.assert_array_equal(answer.emotion, bundle.predict(file).emotion)


def test_the_bounds_are_those_that_were_chosen() -> None:
    """A change of them is a change of what is served: measure again (benchmarks/speaker_adaptive.py) and say so in the log."""
    assert (speaker.FEW, speaker.LOW, speaker.HIGH) == (4.0, 0.25, 0.35)
