"""Discrete units: are vowels of two languages the same sounds? Distributions over clusters of frames, and how alike they are.

Frames are clustered by k-means; a vowel of a language is then a distribution over units (Abdullah et al., arXiv 2306.02405), two of them
are as alike as S = 1 - JSD in bits. Raw S says little: few frames make distributions differ, and all speech is somewhat alike. So it is
set between two others at the same number of speakers: S_null, where vowel labels are drawn again among the vowels of each speaker,
and S_self, halves of the speakers of one corpus. S* = (S - S_null) / (S_self - S_null): 1 is as alike as two halves of one
corpus, 0 as alike as labels that say nothing. Frames of an utterance depend on each other: whole vowels are permuted, whole
speakers are drawn.

Shapes: M vowels that were heard ("tokens"), K units, G cells (a corpus and a vowel, or an emotion too), F frames, D width, R draws,
S speakers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SMOOTHING = 0.5  # added to every count of a distribution
FEWEST_FRAMES, FEWEST_SPEAKERS = 200, 3  # of a cell that is reported
SMALLEST = 0.01  # of S_self - S_null: below it there is nothing to divide by


@dataclass(frozen=True)
class Tokens:
    """Vowels that were heard, one row each: counts of units [M, K] of their frames, and what is known of them as indices [M].

    corpus, speaker (numbered through all corpora), utterance; vowel and emotion may be -1 where unknown.
    """

    counts: Floats
    corpus: Ints
    speaker: Ints
    utterance: Ints
    vowel: Ints
    emotion: Ints

    def __len__(self) -> int:
        return len(self.counts)


# --------------------------------------------------------------------------------------------- distributions


def distributions(counts: Floats) -> Floats:
    """Counts [..., K] to probabilities with half a count more of each unit."""
    smooth = counts + SMOOTHING
    return np.asarray(smooth / smooth.sum(-1, keepdims=True))


def entropy(p: Floats) -> Floats:
    """Bits of distributions [..., K]."""
    return np.asarray(-(p * np.log2(np.maximum(p, 1e-300))).sum(-1))


def divergence(p: Floats, q: Floats) -> Floats:
    """Jensen-Shannon divergence in bits, in [0, 1], of [..., K] and [..., K] (Lin, IEEE Trans. Information Theory 37, 1991)."""
    return np.clip(entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2, 0.0, 1.0)


def similarities(first: Floats, second: Floats) -> Floats:
    """1 - JSD of every distribution of counts [G, K] with every one of counts [H, K]: [G, H]."""
    p, q = distributions(first), distributions(second)
    apart = entropy((p[:, None] + q[None]) / 2) - (entropy(p)[:, None] + entropy(q)[None]) / 2
    return 1.0 - np.clip(apart, 0.0, 1.0)


def summed(tokens: Tokens, cell: Ints, num_cells: int, weight: Floats | None = None) -> Floats:
    """Counts of each cell [G, K]; cell -1 is left out, weight [M] multiplies a token's counts."""
    used = np.flatnonzero(cell >= 0)
    values = np.ones(len(used)) if weight is None else weight[used]
    picks = csr_matrix((values, (cell[used], used)), shape=(num_cells, len(tokens)))
    return np.asarray(picks @ tokens.counts)


def reported(tokens: Tokens, cell: Ints, num_cells: int) -> NDArray[np.bool_]:
    """Which cells have the fewest frames and speakers that a statement takes, [G]."""
    frames = summed(tokens, cell, num_cells).sum(-1)
    pairs = np.unique(np.stack([cell, tokens.speaker])[:, cell >= 0], axis=1)
    speakers = np.bincount(pairs[0], minlength=num_cells)
    return np.asarray((frames >= FEWEST_FRAMES) & (speakers >= FEWEST_SPEAKERS))


# --------------------------------------------------------------------------------------------- nulls and draws


def halves(tokens: Tokens, rng: np.random.Generator) -> Floats:
    """One of two halves for every token, [M]: the speakers of each corpus are cut in two at random, so that halves share nobody."""
    side = np.zeros(int(tokens.speaker.max()) + 1)
    for corpus in np.unique(tokens.corpus):
        speakers = rng.permutation(np.unique(tokens.speaker[tokens.corpus == corpus]))
        side[speakers[: len(speakers) // 2]] = 1.0
    return np.asarray(side[tokens.speaker])


def permuted(labels: Ints, strata: Ints, rng: np.random.Generator) -> Ints:
    """Labels [M] dealt out anew within each stratum."""
    drawn = np.empty_like(labels)
    drawn[np.argsort(strata, kind="stable")] = labels[np.lexsort((rng.random(len(labels)), strata))]
    return drawn


def drawn_speakers(tokens: Tokens, rng: np.random.Generator) -> Floats:
    """How often each speaker counts, [S], where the speakers of each corpus are drawn with replacement."""
    drawn = np.zeros(int(tokens.speaker.max()) + 1)
    for corpus in np.unique(tokens.corpus):
        speakers = np.unique(tokens.speaker[tokens.corpus == corpus])
        np.add.at(drawn, rng.choice(speakers, size=len(speakers)), 1.0)
    return drawn


# --------------------------------------------------------------------------------------------- similarity


@dataclass(frozen=True)
class Likeness:
    """How alike cells are, each [G, G]: `raw` S between halves, `null` and `own` (S_self of the two, averaged), `corrected` S* with the
    half width of its 95 % interval, p that labels say nothing; `draws` [R, G, G] of S* over speakers. NaN where a cell is not reported.
    """

    raw: Floats
    null: Floats
    own: Floats
    corrected: Floats
    half_width: Floats
    p: Floats
    draws: Floats


def likeness(tokens: Tokens, cell_of: Ints, labels: Ints, num_cells: int, draws: int = 200, boots: int = 1000, seed: int = 0) -> Likeness:
    """Compare all cells.

    cell_of [corpora, labels]: the cell of a corpus and a label (a vowel), labels [M]: which of them a token has, -1 for none. The null
    deals the labels out again among the tokens of each speaker, on one side of a comparison at a time. p is that of S, with one more on
    both sides of the fraction. The interval is 1.96 standard errors of S over `boots` draws of speakers; S_null and S_self are kept.
    """
    rng = np.random.default_rng(seed)
    known = labels >= 0
    cell = np.where(known, cell_of[tokens.corpus, labels], -1)
    there = reported(tokens, cell, num_cells)
    raw, null, beyond = (np.zeros((num_cells, num_cells)) for _ in range(3))
    for _ in range(draws):
        side = halves(tokens, rng)
        mixed = np.where(known, permuted(labels, np.where(known, tokens.speaker, -1), rng), -1)
        other = np.where(mixed >= 0, cell_of[tokens.corpus, mixed], -1)
        first, second = (summed(tokens, cell, num_cells, half) for half in (side, 1 - side))
        first_null, second_null = (summed(tokens, other, num_cells, half) for half in (side, 1 - side))
        found, chance = similarities(first, second), (similarities(first, second_null) + similarities(first_null, second)) / 2
        found, chance = (found + found.T) / 2, (chance + chance.T) / 2
        raw += found / draws
        null += chance / draws
        beyond += chance >= found
    itself = np.diag(raw)
    own = (itself[:, None] + itself[None]) / 2
    scale = np.where(own - null > SMALLEST, own - null, np.nan)
    lost = ~(there[:, None] & there[None])
    speakers = int(tokens.speaker.max()) + 1
    each = summed(tokens, np.where(cell >= 0, tokens.speaker * num_cells + cell, -1), speakers * num_cells)
    each = each.reshape(speakers, num_cells, -1)
    resampled = np.zeros((boots, num_cells, num_cells))
    for r in range(boots):
        counts = np.tensordot(drawn_speakers(tokens, rng), each, axes=1)
        resampled[r] = similarities(counts, counts)
    spread = (resampled - resampled.mean(0, keepdims=True)) / scale if boots else resampled
    corrected = (raw - null) / scale
    corrected[lost] = np.nan
    p = np.where(lost, np.nan, (beyond + 1) / (draws + 1))
    half_width = 1.96 * spread.std(0) if boots else np.full_like(corrected, np.nan)
    return Likeness(raw, null, own, corrected, half_width, p, corrected + spread)


def emotion_effect(
    tokens: Tokens, cell: Ints, num_cells: int, num_emotions: int, draws: int = 200, seed: int = 0
) -> tuple[Floats, Floats, Floats]:
    """How far emotions move each cell: mean JSD of pairs of emotions, less what it is where the emotions of each speaker's
    utterances are dealt out again; that chance level; and p, each [G].

    NaN where fewer than two emotions are reported, or where most speakers have a single emotion and nothing could be dealt out.
    """
    rng = np.random.default_rng(seed)
    utterances, first = np.unique(tokens.utterance, return_index=True)
    place = np.searchsorted(utterances, tokens.utterance)
    emotion, speaker = tokens.emotion[first], tokens.speaker[first]
    wide = num_cells * num_emotions

    def joint(labels: Ints) -> Ints:
        mine = labels[place]
        return np.where((cell >= 0) & (mine >= 0), cell * num_emotions + mine, -1)

    there = reported(tokens, joint(emotion), wide).reshape(num_cells, num_emotions)

    def mean_divergence(labels: Ints) -> Floats:
        p = distributions(summed(tokens, joint(labels), wide)).reshape(num_cells, num_emotions, -1)
        found = np.full(num_cells, np.nan)
        for g in range(num_cells):
            here = p[g, there[g]]
            if len(here) > 1:
                rows, columns = np.triu_indices(len(here), 1)
                found[g] = divergence(here[rows], here[columns]).mean()
        return found

    truth = mean_divergence(emotion)
    chance = np.stack([mean_divergence(permuted(emotion, speaker, rng)) for _ in range(draws)])
    p = (1 + (chance >= truth).sum(0)) / (draws + 1)
    for g in range(num_cells):
        if not mixed_emotions(tokens, cell == g):
            truth[g] = np.nan
    lost = np.isnan(truth)
    return truth - chance.mean(0), np.where(lost, np.nan, chance.mean(0)), np.where(lost, np.nan, p)


def emotion_excess(
    tokens: Tokens, num_corpora: int, num_vowels: int, num_emotions: int, pairs: Sequence[tuple[int, int]], draws: int = 200, seed: int = 0
) -> tuple[Floats, Floats]:
    """For each pair of corpora and each emotion: S of a vowel in that emotion, mean over vowels, less what it is where the
    emotions of each speaker's utterances are dealt out again, on one side at a time; and p. [pairs, emotions] twice.

    NaN where no vowel is reported in both, or where most speakers of one of them have a single emotion.
    """
    rng = np.random.default_rng(seed)
    utterances, first = np.unique(tokens.utterance, return_index=True)
    place = np.searchsorted(utterances, tokens.utterance)
    emotion, speaker = tokens.emotion[first], tokens.speaker[first]
    shape, wide = (num_corpora, num_vowels, num_emotions), num_corpora * num_vowels * num_emotions

    def joint(labels: Ints) -> Ints:
        mine = labels[place]
        return np.where((tokens.vowel >= 0) & (mine >= 0), (tokens.corpus * num_vowels + tokens.vowel) * num_emotions + mine, -1)

    there = reported(tokens, joint(emotion), wide).reshape(shape)
    there &= np.array([mixed_emotions(tokens, tokens.corpus == c) for c in range(num_corpora)])[:, None, None]
    true = distributions(summed(tokens, joint(emotion), wide)).reshape(*shape, -1)

    def means(left: Floats, right: Floats) -> Floats:
        """Mean S over vowels that both have, [pairs, emotions]."""
        found = []
        for a, b in pairs:
            both = there[a] & there[b]  # [vowels, emotions]
            alike = np.where(both, 1.0 - divergence(left[a], right[b]), 0.0).sum(0)
            count = both.sum(0)
            found.append(np.divide(alike, count, out=np.full(num_emotions, np.nan), where=count > 0))
        return np.array(found).reshape(len(pairs), num_emotions)

    truth, total, beyond = means(true, true), np.zeros((len(pairs), num_emotions)), np.zeros((len(pairs), num_emotions))
    for _ in range(draws):
        drawn = distributions(summed(tokens, joint(permuted(emotion, speaker, rng)), wide)).reshape(*shape, -1)
        chance = (means(true, drawn) + means(drawn, true)) / 2
        total += chance / draws
        beyond += chance >= truth
    return truth - total, np.where(np.isnan(truth), np.nan, (1 + beyond) / (draws + 1))


def mixed_emotions(tokens: Tokens, where: NDArray[np.bool_]) -> bool:
    """Whether at least half of the speakers of some tokens have several emotions; else who speaks and what is felt are one thing."""
    pairs = np.unique(np.stack([tokens.speaker, tokens.emotion])[:, where & (tokens.emotion >= 0)], axis=1)
    if not pairs.size:
        return False
    _, count = np.unique(pairs[0], return_counts=True)
    return bool((count > 1).mean() >= 0.5)


# --------------------------------------------------------------------------------------------- is the measure any good


def information(table: Floats) -> tuple[float, float, float]:
    """Of counts [labels, K]: the share of the labels' entropy that units tell (HuBERT's phone-normalised mutual information), how pure
    units are, and how much of a label its commonest unit holds (cluster and phone purity).
    """
    joint = table / table.sum()
    label, unit = joint.sum(1), joint.sum(0)
    told = entropy(label) + entropy(unit) - entropy(joint.ravel())
    return float(told / max(float(entropy(label)), 1e-12)), float(joint.max(0).sum()), float(joint.max(1).sum())


def same_and_other(corrected: Floats, corpus: Ints, vowel: Ints) -> tuple[Floats, Floats]:
    """S* of pairs of cells of two corpora: those with the same vowel, and those with different ones."""
    rows, columns = np.triu_indices(len(corrected), 1)
    across = (corpus[rows] != corpus[columns]) & ~np.isnan(corrected[rows, columns])
    same = vowel[rows] == vowel[columns]
    return corrected[rows, columns][across & same], corrected[rows, columns][across & ~same]


def separation(same: Floats, other: Floats) -> float:
    """How often the same vowel is more alike than a different one (area under the curve); NaN without either."""
    if not len(same) or not len(other):
        return float("nan")
    return float(((same[:, None] > other[None]) + 0.5 * (same[:, None] == other[None])).mean())


def retrieved(corrected: Floats, corpus: Ints, vowel: Ints) -> tuple[int, int]:
    """How many vowels of a corpus have the same vowel as their nearest in another corpus, and how many were asked."""
    hits = asked = 0
    for g in range(len(corrected)):
        for other in np.unique(corpus[corpus != corpus[g]]):
            there = np.flatnonzero((corpus == other) & ~np.isnan(corrected[g]))
            if vowel[g] in vowel[there]:
                asked += 1
                hits += int(vowel[there[np.argmax(corrected[g, there])]] == vowel[g])
    return hits, asked


def renamed_p(corrected: Floats, corpus: Ints, vowel: Ints, draws: int = 2000, seed: int = 0) -> float:
    """p of `separation` where the vowels of each corpus are renamed at random."""
    rng = np.random.default_rng(seed)
    truth = separation(*same_and_other(corrected, corpus, vowel))
    drawn = [separation(*same_and_other(corrected, corpus, permuted(vowel, corpus, rng))) for _ in range(draws)]
    return float((1 + np.sum(np.array(drawn) >= truth)) / (draws + 1))


def false_discovery(p: Floats) -> Floats:
    """Benjamini and Hochberg's adjusted p of [n], NaN left alone (J. Royal Statistical Society B 57, 1995)."""
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known])]
    adjusted = np.full_like(p, np.nan)
    if len(order):
        steps = p[order] * len(order) / np.arange(1, len(order) + 1)
        adjusted[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    return adjusted
