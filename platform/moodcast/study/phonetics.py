"""The study behind `moodcast units`: corpora are heard, frames clustered, vowels compared across corpora, languages and emotions.

What is heard of a corpus, by `few` of it: study/hearing.py; `examine` does the rest. What a statement means: study/units.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import rankdata  # type: ignore[import-untyped]

from moodcast.manifest import Utterance
from moodcast.study import kmeans, units, vowels
from moodcast.study.hearing import Heard
from moodcast.study.units import Floats, Ints, Likeness, Tokens
from moodcast.study.vowels import VOWELS

Clusterer = Callable[[Floats, Floats], tuple[Floats, float]]  # frames, first centres -> centres, inertia

LARGEST = 40_000  # frames that k-means sees
FEWEST_DRAWN, UTTERANCES_EACH = 12, 25  # speakers of a corpus that is too large, and utterances of each


def few(rows: Sequence[Utterance], emotions: Sequence[str], most: int, seed: int = 0) -> list[Utterance]:
    """At most `most` utterances of each corpus with one of the emotions. Of a corpus that has more, speakers are drawn at random, as many
    as make 25 utterances each, 12 at least, and more where that is too few; theirs are taken in turn from each emotion.
    """
    rng = np.random.default_rng(seed)
    kept: list[Utterance] = []
    for corpus in sorted({row.corpus for row in rows}):
        own = sorted((row for row in rows if row.corpus == corpus and row.emotion in emotions), key=lambda row: row.id)
        if len(own) > most:
            speakers = sorted({row.corpus_speaker for row in own})
            drawn = [speakers[i] for i in rng.permutation(len(speakers))]
            held = np.cumsum([sum(row.corpus_speaker == speaker for row in own) for speaker in drawn])
            wanted = max(FEWEST_DRAWN, most // UTTERANCES_EACH, int(np.searchsorted(held, most)) + 1)
            chosen = set(drawn[:wanted])
            piles = [[row for row in own if row.corpus_speaker in chosen and row.emotion == emotion] for emotion in emotions]
            shuffled = [[pile[i] for i in rng.permutation(len(pile))] for pile in piles]
            own = [row for turn in range(max(map(len, shuffled))) for pile in shuffled for row in pile[turn : turn + 1]][:most]
        kept += sorted(own, key=lambda row: row.id)
    return kept


@dataclass(frozen=True)
class Corpora:
    """The corpora of a study: names in order, language of each, and how its vowels were found ("phones" or "acoustic")."""

    names: tuple[str, ...]
    languages: tuple[str, ...]
    vowels: tuple[str, ...]

    def same_language(self, first: int, second: int) -> bool:
        """Whether two of them are of one language."""
        return self.languages[first] == self.languages[second]


def examine(
    heard: Heard, emotions: Sequence[str], num_units: int = 100, seed: int = 0, cluster: Clusterer | None = None, draws: int = 200
) -> dict[str, Any]:
    """Everything that is found, ready for JSON and for the page.

    cluster: who does k-means (default: here, by scikit-learn). draws: permutations; speakers are drawn five times as often.
    """
    corpora = _corpora(heard)
    standard, sample = standardised(heard, corpora)
    chosen = _balanced(heard, emotions, seed)
    if len(chosen) < 2 * num_units:
        most = len(chosen) // 2  # twice as many units are tried, too
        raise ValueError(f"{num_units} units of {len(chosen)} frames: wanted more utterances, or fewer units (-k {most} at most)")
    fit = cluster or kmeans.cluster
    centres, inertia = fit(sample[chosen], kmeans.first_centres(sample[chosen], num_units, seed))
    tokens = tokens_of(heard, corpora, standard, centres, emotions)
    cell_of = np.arange(len(corpora.names) * len(VOWELS)).reshape(len(corpora.names), len(VOWELS))
    found = units.likeness(tokens, cell_of, tokens.vowel, cell_of.size, draws, 5 * draws, seed)
    corpus, vowel = np.repeat(np.arange(len(corpora.names)), len(VOWELS)), np.tile(np.arange(len(VOWELS)), len(corpora.names))
    others = {}
    for name, number, other_seed in (("half as many units", num_units // 2, seed), ("twice as many", 2 * num_units, seed)):
        others[name] = _again(heard, corpora, standard, sample[chosen], emotions, number, other_seed, found, cell_of, fit, draws)
    others["another start"] = _again(heard, corpora, standard, sample[chosen], emotions, num_units, seed + 1, found, cell_of, fit, draws)
    study: dict[str, Any] = _plain(
        {
            "num_units": num_units,
            "seed": seed,
            "utterances": len(heard.rows),
            "frames_clustered": len(chosen),
            "inertia_per_frame": inertia / len(chosen),
            "vowels": list(VOWELS),
            "emotions": list(emotions),
            "corpora": _about(heard, corpora, tokens),
            "cells": _cells(corpora, tokens, cell_of),
            "likeness": {
                "corrected": found.corrected,
                "half_width": found.half_width,
                "q": _q(found.p),
                "raw": found.raw,
                "null": found.null,
                "own": found.own,
            },
            "pairs": pairs_of(corpora, found),
            "control": control(corpora, found),
            "emotion_effect": _effects(tokens, corpora, cell_of, emotions, draws, seed),
            "emotion_likeness": _across(tokens, corpora, emotions, draws, seed),
            "validation": _validated(heard, tokens, found, corpus, vowel, others, 10 * draws, seed),
        }
    )
    return study


def standardised(heard: Heard, corpora: Corpora) -> tuple[Floats, Floats]:
    """Frames inside vowels and sampled frames, centred and scaled by the mean and deviation of each corpus' sampled frames."""
    corpus = np.array([corpora.names.index(row.corpus) for row in heard.rows])
    standard, sample = np.array(heard.frames, dtype=float), np.array(heard.sampled, dtype=float)
    for c in range(len(corpora.names)):
        here = sample[corpus[heard.sampled_row] == c]
        mean, spread = here.mean(0), np.maximum(here.std(0), 1e-6)
        standard[corpus[heard.row_of[heard.token_of]] == c] -= mean
        standard[corpus[heard.row_of[heard.token_of]] == c] /= spread
        sample[corpus[heard.sampled_row] == c] = (here - mean) / spread
    return standard, sample


def tokens_of(heard: Heard, corpora: Corpora, standard: Floats, centres: Floats, emotions: Sequence[str]) -> Tokens:
    """The vowels with the units of their frames; acoustic ones are named here, by formants standardised over their corpus."""
    rows = [heard.rows[i] for i in heard.row_of]
    corpus = np.array([corpora.names.index(row.corpus) for row in rows])
    names = sorted({row.corpus_speaker for row in rows})
    unit, _ = kmeans.nearest_units(standard, centres)
    counts = np.zeros((len(rows), len(centres)))
    np.add.at(counts, (heard.token_of, unit), 1.0)
    vowel = heard.named.copy()
    for c in range(len(corpora.names)):
        blank = (corpus == c) & (vowel < 0)
        if blank.any():
            vowel[blank] = vowels.nearest(vowels.lobanov(heard.formants[blank], heard.formants[corpus == c]))
    return Tokens(
        counts,
        corpus,
        np.array([names.index(row.corpus_speaker) for row in rows]),
        heard.row_of,
        vowel,
        np.array([emotions.index(row.emotion) if row.emotion in emotions else -1 for row in rows]),
    )


def pairs_of(corpora: Corpora, found: Likeness) -> list[dict[str, Any]]:
    """Every two corpora: mean S* of the same vowels with its 95 % interval, and of different vowels."""
    listed = []
    for a, b in combinations(range(len(corpora.names)), 2):
        same, draws = _mean_same(found, a, b)
        block = found.corrected[_of(a)][:, _of(b)].copy()
        np.fill_diagonal(block, np.nan)
        listed.append(
            {
                "corpora": [corpora.names[a], corpora.names[b]],
                "same_language": corpora.same_language(a, b),
                "same_vowel": _interval(same, draws),
                "other_vowel": float(np.nanmean(block)) if np.isfinite(block).any() else None,
            }
        )
    return listed


def control(corpora: Corpora, found: Likeness) -> dict[str, Any] | None:
    """Same-vowel S* between corpora of one language less that between languages, with its interval; None without both kinds.

    Two corpora of a language differ in speakers, sentences and channel; only what languages add to that may be called language.
    """
    kinds: dict[bool, list[tuple[float, Floats]]] = {True: [], False: []}
    for a, b in combinations(range(len(corpora.names)), 2):
        value, draws = _mean_same(found, a, b)
        if np.isfinite(value):
            kinds[corpora.same_language(a, b)].append((value, draws))
    if not kinds[True] or not kinds[False]:
        return None
    (one, one_draws), (two, two_draws) = (
        (float(np.mean([v for v, _ in kinds[k]])), np.asarray(np.mean([d for _, d in kinds[k]], axis=0))) for k in (True, False)
    )
    return {
        "one_language": _interval(one, one_draws),
        "two_languages": _interval(two, two_draws),
        "difference": _interval(one - two, one_draws - two_draws),
        "num_pairs": [len(kinds[True]), len(kinds[False])],
    }


# ------------------------------------------------------------------------------------------------------- parts


def _corpora(heard: Heard) -> Corpora:
    names = sorted({row.corpus for row in heard.rows})
    languages, how = [], []
    for name in names:
        own = [row for row in heard.rows if row.corpus == name]
        languages.append(Counter(row.language or "unknown" for row in own).most_common(1)[0][0])
        named = heard.named[[heard.rows[i].corpus == name for i in heard.row_of]]
        how.append("phones" if len(named) and (named >= 0).mean() > 0.5 else "acoustic")
    order = np.lexsort((names, languages))
    return Corpora(tuple(names[i] for i in order), tuple(languages[i] for i in order), tuple(how[i] for i in order))


def _balanced(heard: Heard, emotions: Sequence[str], seed: int) -> Ints:
    """Sampled frames for k-means: as many of each corpus and emotion, of the train side where a manifest has one."""
    rng = np.random.default_rng(seed)
    trained = {row.corpus for row in heard.rows if row.split == "train"}
    piles: dict[tuple[str, str | None], list[int]] = {}
    for i, row in enumerate(heard.rows[j] for j in heard.sampled_row):
        if row.emotion in emotions and (row.corpus not in trained or row.split == "train"):
            piles.setdefault((row.corpus, row.emotion), []).append(i)
    if not piles:
        raise ValueError(f"no utterance has one of the emotions {', '.join(emotions)}")
    each = min(min(map(len, piles.values())), LARGEST // len(piles))
    return np.sort(np.concatenate([rng.permutation(pile)[:each] for pile in piles.values()]))


def _again(
    heard: Heard,
    corpora: Corpora,
    standard: Floats,
    sample: Floats,
    emotions: Sequence[str],
    number: int,
    seed: int,
    found: Likeness,
    cell_of: Ints,
    fit: Clusterer,
    draws: int,
) -> float:
    """Rank correlation of S* with that of another clustering."""
    centres, _ = fit(sample, kmeans.first_centres(sample, number, seed))
    tokens = tokens_of(heard, corpora, standard, centres, emotions)
    other = units.likeness(tokens, cell_of, tokens.vowel, cell_of.size, min(draws, 50), 0, seed)
    upper = np.triu_indices(cell_of.size, 1)
    first, second = found.corrected[upper], other.corrected[upper]
    known = ~np.isnan(first) & ~np.isnan(second)
    return spearman(first[known], second[known])


def _about(heard: Heard, corpora: Corpora, tokens: Tokens) -> list[dict[str, Any]]:
    listed = []
    for c, name in enumerate(corpora.names):
        own, mine = [row for row in heard.rows if row.corpus == name], tokens.corpus == c
        table = units.summed(tokens, np.where(mine, tokens.vowel, -1), len(VOWELS))
        told, purity, vowel_purity = units.information(table) if table.sum() else (float("nan"),) * 3
        listed.append(
            {
                "name": name,
                "language": corpora.languages[c],
                "vowels_by": corpora.vowels[c],
                "utterances": len(own),
                "speakers": len({row.corpus_speaker for row in own}),
                "num_vowels": int((mine & (tokens.vowel >= 0)).sum()),
                "emotions_mixed": units.mixed_emotions(tokens, mine),
                "information": told,
                "unit_purity": purity,
                "vowel_purity": vowel_purity,
            }
        )
    return listed


def _cells(corpora: Corpora, tokens: Tokens, cell_of: Ints) -> list[dict[str, Any]]:
    cell = np.where(tokens.vowel >= 0, cell_of[tokens.corpus, tokens.vowel], -1)
    counts, there = units.summed(tokens, cell, cell_of.size), units.reported(tokens, cell, cell_of.size)
    p = units.distributions(counts)
    return [
        {
            "corpus": corpora.names[g // len(VOWELS)],
            "vowel": VOWELS[g % len(VOWELS)],
            "frames": int(counts[g].sum()),
            "speakers": len(np.unique(tokens.speaker[cell == g])),
            "reported": bool(there[g]),
            "entropy": float(units.entropy(p[g])),
            "units": np.round(p[g], 5),
        }
        for g in range(cell_of.size)
    ]


def _effects(tokens: Tokens, corpora: Corpora, cell_of: Ints, emotions: Sequence[str], draws: int, seed: int) -> dict[str, Any]:
    cell = np.where(tokens.vowel >= 0, cell_of[tokens.corpus, tokens.vowel], -1)
    effect, chance, p = units.emotion_effect(tokens, cell, cell_of.size, len(emotions), draws, seed)
    shape = (len(corpora.names), len(VOWELS))
    return {"effect": effect.reshape(shape), "chance": chance.reshape(shape), "q": units.false_discovery(p).reshape(shape)}


def _across(tokens: Tokens, corpora: Corpora, emotions: Sequence[str], draws: int, seed: int) -> list[dict[str, Any]]:
    """For two corpora and an emotion: how much more alike a vowel is in that emotion than where emotions are dealt out anew."""
    found = []
    pairs = list(combinations(range(len(corpora.names)), 2))
    excess, p = units.emotion_excess(tokens, len(corpora.names), len(VOWELS), len(emotions), pairs, draws, seed)
    q = units.false_discovery(p.ravel()).reshape(p.shape)
    for i, (a, b) in enumerate(pairs):
        found.append({"corpora": [corpora.names[a], corpora.names[b]], "excess": excess[i], "q": q[i]})
    return found


def _validated(
    heard: Heard, tokens: Tokens, found: Likeness, corpus: Ints, vowel: Ints, others: dict[str, float], draws: int, seed: int
) -> dict[str, Any]:
    """What says that S* measures anything: V1 to V4 of the study that this follows, and acoustic names against labelled ones."""
    hits, asked = units.retrieved(found.corrected, corpus, vowel)
    same, other = units.same_and_other(found.corrected, corpus, vowel)
    formants = _formants(heard, tokens, corpus, vowel)
    rows, columns = np.triu_indices(len(vowel), 1)
    far = np.linalg.norm(formants[rows] - formants[columns], axis=1)
    known = (corpus[rows] != corpus[columns]) & ~np.isnan(found.corrected[rows, columns]) & ~np.isnan(far)
    return {
        "separation": units.separation(same, other),
        "separation_p": units.renamed_p(found.corrected, corpus, vowel, draws, seed) if len(same) and len(other) else None,
        "retrieved": hits,
        "asked": asked,
        "chance": 1 / len(VOWELS),
        "formant_correlation": spearman(1 - found.corrected[rows, columns][known], far[known]),
        "stability": others,
        "acoustic_names": _agreement(heard, tokens),
    }


def _formants(heard: Heard, tokens: Tokens, corpus: Ints, vowel: Ints) -> Floats:
    """Mean F1 and F2 of each cell, standardised over its corpus, [G, 2]; NaN where there are none."""
    standard = np.full_like(heard.formants, np.nan)
    for c in np.unique(tokens.corpus):
        standard[tokens.corpus == c] = vowels.lobanov(heard.formants[tokens.corpus == c])
    means = np.full((len(vowel), 2), np.nan)
    for g in range(len(vowel)):
        mine = standard[(tokens.corpus == corpus[g]) & (tokens.vowel == vowel[g])]
        if len(mine) and not np.isnan(mine).all():
            means[g] = np.nanmean(mine, axis=0)
    return means


def _agreement(heard: Heard, tokens: Tokens) -> dict[str, Any] | None:
    """Where vowels are labelled: mean recall of the names that their formants alone would get; chance is 0.2."""
    recalls = []
    labelled = heard.named >= 0
    if not labelled.any():
        return None
    guess = np.full(len(heard.named), -1, dtype=np.int64)
    for c in np.unique(tokens.corpus[labelled]):
        mine = labelled & (tokens.corpus == c)
        guess[mine] = vowels.nearest(vowels.lobanov(heard.formants[mine]))
    for k in range(len(VOWELS)):
        mine = labelled & (heard.named == k) & (guess >= 0)
        if mine.any():
            recalls.append(float((guess[mine] == k).mean()))
    return {"mean_recall": float(np.mean(recalls)), "num_vowels": int(labelled.sum())}


def spearman(first: Floats, second: Floats) -> float:
    """Rank correlation of [n] and [n]; NaN below three."""
    if len(first) < 3:
        return float("nan")
    return float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])


def _of(corpus: int) -> slice:
    return slice(corpus * len(VOWELS), (corpus + 1) * len(VOWELS))


def _mean_same(found: Likeness, a: int, b: int) -> tuple[float, Floats]:
    """The mean S* of the same vowels of two corpora, and of each draw of speakers [R]."""
    diagonal = np.diagonal(found.corrected[_of(a)][:, _of(b)])
    if np.isnan(diagonal).all():
        return float("nan"), np.full(len(found.draws), np.nan)
    drawn = np.diagonal(found.draws[:, _of(a)][:, :, _of(b)], axis1=1, axis2=2)
    return float(np.nanmean(diagonal)), np.asarray(np.nanmean(drawn, axis=1))


def _interval(value: float, draws: Floats) -> list[float]:
    half = 1.96 * float(np.std(draws))
    return [float(value), float(value) - half, float(value) + half]


def _q(p: Floats) -> Floats:
    """Adjusted p of a symmetric table, its diagonal left out."""
    upper = np.triu_indices(len(p), 1)
    q = np.full_like(p, np.nan)
    q[upper] = units.false_discovery(p[upper])
    return np.where(np.isnan(q), q.T, q)


def _plain(value: Any) -> Any:
    """Lists and numbers for JSON; what is not a number is None."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value
