"""Slices, guard lines and differences, from answers made by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from moodcast import scores
from moodcast.manifest import Utterance
from moodcast.metrics import Interval
from moodcast.scores import Answers, Baseline, Report

CLASSES = ("a", "b")


def answers_of(right: list[bool], speakers: int = 6, **columns: list[str]) -> Answers:
    """Utterance i has class i % 2 and is answered right or wrong with a confidence of 0.8."""
    num = len(right)
    truth = np.arange(num) % 2
    told = np.where(right, truth, 1 - truth)
    given = np.full((num, 2), 0.2)
    given[np.arange(num), told] = 0.8
    rows = tuple(
        Utterance(
            id=f"u{i}", path="x", corpus="c", speaker=f"s{i // 2 % speakers}", **{name: values[i] for name, values in columns.items()}
        )
        for i in range(num)
    )
    return Answers(CLASSES, rows, truth, given, np.full((num, 2), np.nan))


def scored(answers: Answers, *baselines: Baseline, **more: object) -> scores.Scores:
    return scores.score_slice("all", "all", answers, baselines, np.array([0.5, 0.5]), **more)  # type: ignore[arg-type]


def always(k: int, num: int) -> Baseline:
    return Baseline("majority", f"always {CLASSES[k]}", np.full(num, k))


def test_slices_are_the_pool_and_each_group_of_which_there_are_several() -> None:
    answers = answers_of([True] * 24, language=["de", "en"] * 12, gender=["female"] * 24)
    assert [(name, kind, int(mask.sum())) for name, kind, mask in scores.slices(answers)] == [
        ("all", "all", 24),
        ("de", "language", 12),
        ("en", "language", 12),
    ]


def test_a_guard_line_says_what_trivial_answers_get_and_whether_that_is_clearly_less() -> None:
    found = scored(answers_of([True] * 24), always(0, 24))
    assert found.guard == "UAR 100.0 [100.0, 100.0]; chance 50.0; majority 50.0; above majority by +50.0 [+50.0, +50.0]"
    lucky = scored(answers_of([True] * 4 + [False] * 2 + [True] * 2 + [False] * 4 + [True] * 2), always(0, 14))
    assert lucky.beside("majority").above.value > 0 > lucky.beside("majority").above.low
    assert "NOT CLEARLY BETTER THAN THAT" in lucky.guard


def test_a_guard_line_says_where_a_lead_is_that_of_a_few_speakers() -> None:
    few, more = (scored(answers_of([True] * 24, speakers=num), always(0, 24)).guard for num in (5, 6))
    assert few == f"{more}; BY 5 SPEAKERS ALONE"
    assert "ALONE" not in scored(answers_of([False] * 24, speakers=2), always(0, 24)).guard, "what is not better is not theirs"


def test_a_guard_line_says_how_far_below_an_answer_is() -> None:
    found = scored(answers_of([False] * 24), always(0, 24))
    assert "; BELOW majority by 50.0 [50.0, 50.0]; NOT CLEARLY" in found.guard


def test_a_guard_line_begins_with_what_makes_the_score_doubtful() -> None:
    found = scored(answers_of([True] * 24), always(0, 24), flags=("leaks overridden",))
    assert found.guard.startswith("UAR 100.0 [100.0, 100.0]; LEAKS OVERRIDDEN; chance")


def test_a_guard_line_says_where_the_speaker_tells_more() -> None:
    answers = answers_of([True, False] * 12)
    named = Baseline("speaker's name", "by name", answers.truth)
    guard = scored(answers, always(0, 24), named).guard
    assert "WHO SPEAKS TELLS MORE" in guard
    assert "above majority by +0.0" in guard  # a name is no rival


def test_a_class_of_one_speaker_has_no_interval_of_its_recall() -> None:
    answers = answers_of([True] * 12)
    rows = tuple(replace(row, speaker="only") if k else row for row, k in zip(answers.rows, answers.truth, strict=True))
    found = scored(replace(answers, rows=rows))
    assert found.recall["b"] == Interval(1.0, 0.0, 1.0)
    assert found.recall["a"] == Interval(1.0, 1.0, 1.0)


def test_sureness_compares_with_the_class_shares_of_training() -> None:
    found = scored(answers_of([True, True, True, True, False, True, True, True, True, False] * 4)).sureness
    assert found.ece.value == pytest.approx(0.0)  # says 0.8 and is right in eight of ten
    assert found.curve == ((pytest.approx(0.8), pytest.approx(0.8), 40),)
    assert found.nll.value == pytest.approx(-(0.8 * np.log(0.8) + 0.2 * np.log(0.2)))
    assert found.prior_nll.value == pytest.approx(np.log(2))


def test_the_train_mean_stands_beside_distributions_and_has_no_skill() -> None:
    answers = answers_of([True] * 24)
    votes = np.where(np.arange(24)[:, None] % 3 == 0, np.nan, np.array([0.7, 0.3]))
    found = scored(replace(answers, votes=votes), train_votes=np.array([0.6, 0.4])).distribution
    assert found is not None
    assert found.num_utterances == 16
    assert found.train_mean["chebyshev"].value == pytest.approx(0.1)
    same = scored(replace(answers, votes=votes, probabilities=np.tile([0.6, 0.4], (24, 1))), train_votes=np.array([0.6, 0.4]))
    assert same.distribution is not None
    assert same.distribution.skill.value == pytest.approx(0.0)


def test_concordance_is_of_labelled_utterances_and_named() -> None:
    answers = answers_of([True] * 24)
    level = np.linspace(0, 1, 24)[:, None]
    level[::5] = np.nan
    found = scored(replace(answers, attribute_names=("valence",), attributes=np.nan_to_num(level), attribute_truth=level))
    assert found.concordance["valence"].value == pytest.approx(1.0)


def test_a_difference_is_paired_and_needs_the_same_utterances() -> None:
    good, bad = answers_of([True] * 24), answers_of([True, False, False, True] * 6)
    found = scored(good, against=bad).difference
    assert found is not None
    assert found.uar == Interval(0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="same classes and utterances"):
        scores.difference(good, bad.where(np.arange(24) < 12))


def test_a_report_is_json_even_where_a_number_cannot_be_had() -> None:
    part = replace(scored(answers_of([True] * 4)), uar=Interval(float("nan"), 0.0, 1.0))
    text = json.dumps(Report("b", "0", "test", CLASSES, (part,), {}, ()).to_dict(), allow_nan=False)
    assert json.loads(text)["slices"][0]["uar"]["value"] is None
