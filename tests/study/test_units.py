"""Discrete units: divergences as scipy has them, nulls that are nulls, k-means in shares as scikit-learn's, vowels put in on purpose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from sklearn.cluster import KMeans

from moodcast.study import kmeans, units
from moodcast.study.units import Tokens

Floats = NDArray[np.float64]


def planted(
    languages: int = 2, speakers: int = 8, each: int = 12, shared: bool = True, emotion: float = 0.0, seed: int = 0, num_units: int = 12
) -> Tokens:
    """Vowels of corpora whose speakers lean to units of their own: vowel v is units 3v to 3v + 2, in other corpora too if shared."""
    rng = np.random.default_rng(seed)
    rows = []
    for corpus in range(languages):
        for speaker in range(speakers):
            own = rng.dirichlet(np.full(num_units, 0.6))
            for i in range(each):
                vowel, felt = i % 3, int(rng.integers(2))
                p = 0.6 * own
                p[(3 * vowel + (0 if shared else 5 * corpus)) % num_units] += 1.0
                p[10 + felt] += emotion
                counts = rng.multinomial(12, p / p.sum()).astype(float)
                rows.append((counts, corpus, corpus * speakers + speaker, len(rows), vowel, felt))
    counts, *known = zip(*rows, strict=True)
    return Tokens(np.array(counts), *(np.array(values, dtype=np.int64) for values in known))


def cells(tokens: Tokens) -> NDArray[np.int64]:
    return np.arange((tokens.corpus.max() + 1) * 3).reshape(-1, 3)


@given(st.integers(2, 30), st.integers(0, 1000))
def test_the_divergence_is_that_of_scipy_and_lies_between_nothing_and_a_bit(size: int, seed: int) -> None:
    p, q = np.random.default_rng(seed).dirichlet(np.full(size, 0.3), 2)
    found = units.divergence(p, q)
    assert found == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-9)
    assert 0 <= found <= 1
    assert units.divergence(p, p) == pytest.approx(0, abs=1e-12)
    assert units.divergence(np.eye(size)[0], np.eye(size)[1]) == pytest.approx(1)


def test_similarities_are_one_less_the_divergence_of_every_pair() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 50, (3, 8)).astype(float), rng.integers(0, 50, (4, 8)).astype(float)
    p, q = units.distributions(first), units.distributions(second)
    assert p.sum(-1) == pytest.approx(np.ones(3))
    wanted = [[1 - jensenshannon(a, b, base=2) ** 2 for b in q] for a in p]
    np.testing.assert_allclose(units.similarities(first, second), wanted, atol=1e-9)


def test_halves_share_no_speaker_and_labels_are_dealt_out_within_a_speaker() -> None:
    tokens, rng = planted(), np.random.default_rng(1)
    side = units.halves(tokens, rng)
    for corpus in (0, 1):
        mine = [set(tokens.speaker[(tokens.corpus == corpus) & (side == half)].tolist()) for half in (0, 1)]
        assert len(mine[0]) == len(mine[1]) == 4
        assert not mine[0] & mine[1]
    dealt = units.permuted(tokens.vowel, tokens.speaker, rng)
    assert (dealt != tokens.vowel).any()
    for speaker in range(16):
        at = tokens.speaker == speaker
        assert sorted(dealt[at]) == sorted(tokens.vowel[at])


def test_shared_vowels_are_as_alike_as_halves_and_labels_that_say_nothing_are_not() -> None:
    tokens = planted()
    found = units.likeness(tokens, cells(tokens), tokens.vowel, 6, draws=60, boots=50)
    same = np.array([found.corrected[v, 3 + v] for v in range(3)])
    other = np.array([found.corrected[v, 3 + w] for v in range(3) for w in range(3) if v != w])
    assert same == pytest.approx(np.ones(3), abs=0.25)
    assert other.max() < 0
    assert max(found.p[v, 3 + v] for v in range(3)) < 0.05
    assert np.diag(found.corrected) == pytest.approx(np.ones(6))
    meaningless = units.permuted(tokens.vowel, tokens.speaker, np.random.default_rng(5))
    chance = units.likeness(tokens, cells(tokens), meaningless, 6, draws=60, boots=20)
    assert min(chance.p[v, 3 + v] for v in range(3)) > 0.01
    assert found.half_width[0, 3] > 0


def test_vowels_that_are_other_units_in_another_corpus_are_not_alike() -> None:
    tokens = planted(shared=False)
    found = units.likeness(tokens, cells(tokens), tokens.vowel, 6, draws=60, boots=20)
    assert max(found.corrected[v, 3 + v] for v in range(3)) < 0.3


def test_what_few_speakers_say_is_not_reported() -> None:
    tokens = planted(speakers=2, each=90)
    found = units.likeness(tokens, cells(tokens), tokens.vowel, 6, draws=5, boots=5)
    assert np.isnan(found.corrected).all()


def test_an_emotion_effect_is_found_where_it_was_put_and_nowhere_else() -> None:
    for strength, wanted in ((1.5, True), (0.0, False)):
        tokens = planted(speakers=6, each=60, emotion=strength)
        cell = tokens.corpus * 3 + tokens.vowel
        effect, chance, p = units.emotion_effect(tokens, cell, 6, 2, draws=80)
        assert (p < 0.05).all() == wanted
        assert (effect > chance).all() == wanted
        excess, across = units.emotion_excess(tokens, 2, 3, 2, [(0, 1)], draws=80)
        assert (across < 0.05).all() == wanted
        assert (excess > 0.02).all() == wanted


def test_emotions_that_are_speakers_say_nothing() -> None:
    tokens = planted(speakers=6, each=60, emotion=1.5)
    alone = Tokens(tokens.counts, tokens.corpus, tokens.speaker, tokens.utterance, tokens.vowel, tokens.speaker % 2)
    effect, _, p = units.emotion_effect(alone, alone.corpus * 3 + alone.vowel, 6, 2, draws=10)
    excess, across = units.emotion_excess(alone, 2, 3, 2, [(0, 1)], draws=10)
    assert all(np.isnan(value).all() for value in (effect, p, excess, across))


def test_information_is_all_where_units_are_labels_and_nothing_where_they_are_not() -> None:
    assert units.information(np.diag([5.0, 9.0, 2.0])) == pytest.approx((1.0, 1.0, 1.0))
    assert units.information(np.outer([1.0, 1.0], [3.0, 1.0]))[0] == pytest.approx(0.0, abs=1e-12)


def test_names_are_retrieved_and_renaming_is_noticed() -> None:
    corpus, vowel = np.repeat([0, 1], 4), np.tile(np.arange(4), 2)
    alike = np.where(vowel[:, None] == vowel[None], 1.0, 0.1) + 0.01 * np.random.default_rng(0).random((8, 8))
    assert units.retrieved(alike, corpus, vowel) == (8, 8)
    assert units.separation(*units.same_and_other(alike, corpus, vowel)) == 1.0
    assert units.renamed_p(alike, corpus, vowel, draws=400) < 0.1
    flat = np.random.default_rng(1).random((8, 8))
    assert units.renamed_p((flat + flat.T) / 2, corpus, vowel, draws=400) > 0.02


def test_adjusted_p_is_that_of_benjamini_and_hochberg() -> None:
    found = units.false_discovery(np.array([0.01, np.nan, 0.04, 0.03, 0.5]))
    assert found == pytest.approx([0.04, np.nan, 0.16 / 3, 0.16 / 3, 0.5], nan_ok=True)


# ---------------------------------------------------------------------------------------------------- k-means


def steps(shares: list[Floats], centres: Floats, iterations: int) -> tuple[Floats, float]:
    inertia = 0.0
    for _ in range(iterations):
        centres, inertia = kmeans.lloyd_step(centres, [kmeans.partial_sums(share, centres) for share in shares])
    return centres, inertia


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(2, 9), st.integers(0, 1000))
def test_steps_over_shares_are_those_of_scikit_learn(shares: int, num_units: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = rng.normal(size=(150, 4)) + 3 * rng.integers(0, 4, (150, 1))
    first = kmeans.first_centres(frames, num_units, seed)
    cut = [frames[i::shares] for i in range(shares)]
    model = KMeans(num_units, init=first, n_init=1, max_iter=4, tol=0.0, algorithm="lloyd").fit(frames)
    np.testing.assert_allclose(steps(cut, first, model.n_iter_)[0], model.cluster_centers_, atol=1e-6)


def test_a_cluster_that_nobody_chose_goes_where_scikit_learn_puts_it() -> None:
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(80, 3))
    first = np.concatenate([frames[:4], [[50.0, 50.0, 50.0]]])
    model = KMeans(5, init=first, n_init=1, max_iter=1, tol=0.0, algorithm="lloyd").fit(frames)
    found, _ = steps([frames[:30], frames[30:]], first, 1)
    np.testing.assert_allclose(found, model.cluster_centers_, atol=1e-6)
    assert np.abs(found).max() < 10


def test_too_few_frames_for_the_units_are_refused() -> None:
    with pytest.raises(ValueError, match="100 units of 20 frames"):
        kmeans.first_centres(np.zeros((20, 3)), 100)
