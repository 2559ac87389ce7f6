"""Labels: which classes a run knows, and how an utterance becomes a target distribution over them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from moodcast.manifest import Utterance

# The class names that corpora share, so that they can be trained and scored together; every module of corpora/ states its map to them.
CLASSES = (
    *("angry", "happy", "neutral", "sad", "fear", "disgust", "boredom", "enthusiasm", "surprise", "calm"),
    *("contempt", "excitement", "frustration", "other"),
)


@dataclass(frozen=True)
class Labels:
    """The classes of a run, in the order of every K axis, and where an utterance's target comes from.

    source: "emotion" (the corpus' label, one-hot), "votes" (the raters' counts as a distribution; the label where nobody voted) or
    "speaker" (corpus/speaker, for speaker embeddings). `attributes` names the A axis, values in [0, 1].
    """

    classes: tuple[str, ...] = ("angry", "happy", "neutral", "sad")
    source: Literal["emotion", "votes", "speaker"] = "emotion"
    attributes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.classes)) != len(self.classes) or len(self.classes) < 2:
            raise ValueError(f"classes must be at least two different names, got {self.classes}")
        if len(set(self.attributes)) != len(self.attributes):
            raise ValueError(f"attributes must be different names, got {self.attributes}")

    def target(self, row: Utterance) -> list[float] | None:
        """A distribution over `classes` (sums to 1), or None where this utterance says nothing about them."""
        if self.source == "speaker":
            return self._one_hot(row.corpus_speaker)
        if self.source == "votes" and row.votes:
            counts = [max(0.0, row.votes.get(name, 0.0)) for name in self.classes]
            total = sum(counts)
            return [count / total for count in counts] if total > 0 else None
        return self._one_hot(row.emotion)

    def values(self, row: Utterance) -> list[float]:
        """The attributes of an utterance in the order of `attributes`, NaN where one is not known."""
        return [(row.attributes or {}).get(name, math.nan) for name in self.attributes]

    def name(self, row: Utterance) -> str | None:
        """The reference class of an utterance for scoring (never the votes), or None."""
        name = row.corpus_speaker if self.source == "speaker" else row.emotion
        return name if name in self.classes else None

    def check(self, train: Iterable[Utterance], came: Iterable[Utterance]) -> None:
        """Raises ValueError where no row to train on has a class (votes may do without) or an attribute, with those that came."""
        train, came = list(train), list(came)
        seen = {self.name(row) for row in train}
        if self.source != "votes" and (missing := [name for name in self.classes if name not in seen]):
            there = ", ".join(sorted({row.emotion for row in came if row.emotion})) or "none"
            raise ValueError(
                f"no training utterance of {', '.join(missing)}; labels that came: {there}. Choose of them with labels.classes=A,B,..., "
                "or have them called otherwise: `moodcast prepare csv TABLE --out NEW labels=THEIRS:OURS,...`"
            )
        self._check_ratings(train, came)

    def keep(self, rows: Iterable[Utterance]) -> list[Utterance]:
        """The utterances that have a target."""
        return [row for row in rows if self.target(row) is not None]

    def _check_ratings(self, train: Sequence[Utterance], came: Sequence[Utterance]) -> None:
        """The part of `check` about attributes."""
        rated = set()
        for row in train:
            for name, value in zip(self.attributes, self.values(row), strict=True):
                if math.isfinite(value):
                    rated.add(name)
                    if not 0 <= value <= 1:
                        raise ValueError(
                            f"{row.id} has {name} {value:g}, and attributes lie in 0 to 1: `moodcast prepare csv` takes ratings of another "
                            "scale, scale=LEAST:MOST"
                        )
        if unrated := [name for name in self.attributes if name not in rated]:
            there = ", ".join(sorted({name for row in came for name in row.attributes or ()})) or "none"
            raise ValueError(
                f"no training utterance has {', '.join(unrated)}; attributes that came: {there}. Choose of them with labels.attributes"
            )

    def _one_hot(self, name: str | None) -> list[float] | None:
        return [float(name == known) for known in self.classes] if name in self.classes else None
