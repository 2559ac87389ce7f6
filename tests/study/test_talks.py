"""Conversations made to score the chain on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.study.talks import SCENE, simulated

LABELS = Labels(("angry", "happy"))
SHORT = replace(SCENE, seconds=8.0)


@pytest.fixture
def rows(write_wav: Callable[..., Path], speechlike: Callable[..., np.ndarray]) -> list[Utterance]:
    """Six recordings of each of three speakers, two in a class that nobody asks for."""
    made = []
    for i in range(18):
        path = write_wav(f"{i}.wav", speechlike(0.8, seed=i, hz=(100, 160, 240)[i % 3]))
        made.append(
            Utterance(f"u{i}", str(path), corpus="toy", speaker=f"s{i % 3}", emotion=("angry", "happy", "bored")[i // 3 % 3], split="dev")
        )
    return made


def test_a_talk_has_its_truth_in_classes_of_the_bundle(rows: list[Utterance]) -> None:
    talks = list(simulated(rows, LABELS, 3, SHORT, seed=1))
    assert [talk.uri for talk in talks] == ["talk_1_000", "talk_1_001", "talk_1_002"]
    for talk in talks:
        reference = talk.reference
        assert reference.duration_s == pytest.approx(len(talk.wave) / talk.rate, abs=1e-3)
        assert {row.emotion for row in reference.segments} <= set(LABELS.classes)
        assert {row.speaker for row in reference.segments} <= {"toy/s0", "toy/s1", "toy/s2"}
        assert 2 <= len(reference.speakers) <= 3
        loud = [float(np.sqrt(np.mean(talk.samples(row) ** 2))) for row in reference.segments if not row.overlap]
        assert min(loud) > 0.2 * float(np.sqrt(np.mean(talk.wave**2)))  # somebody speaks where the truth has it


def test_a_seed_makes_the_same_talks_and_another_one_others(rows: list[Utterance]) -> None:
    first, again, other = (next(simulated(rows, LABELS, 1, SHORT, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.wave, again.wave)
    assert first.reference == again.reference
    assert other.reference.segments != first.reference.segments


def test_it_takes_two_to_talk(rows: list[Utterance]) -> None:
    with pytest.raises(ValueError, match="these rows have 1"):
        list(simulated([row for row in rows if row.speaker == "s0"], LABELS, 1, SHORT))
