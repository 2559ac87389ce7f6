"""What a bundle knows of its making: whom it heard, with labels and without, and by whom it was chosen."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol


class Row(Protocol):
    """What of an utterance says who speaks, and in which dialogue or session; see `moodcast.manifest.Utterance`."""

    @property
    def group(self) -> str | None:
        """None where there is none."""

    @property
    def corpus_speaker(self) -> str:
        """As "corpus/name"."""

    @property
    def corpus_group(self) -> str:
        """As "corpus/name", of the speaker where there is no group."""


@dataclass(frozen=True)
class ChosenOn:
    """The utterances by which one of several states of a method, or a temperature, was chosen.

    speakers, groups and fingerprints as in Provenance.
    """

    speakers: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()


@dataclass(frozen=True)
class AdaptedTo:
    """What a bundle has heard without labels, of corpora that it was adapted to; speakers, groups and fingerprints as in Provenance.

    unsealed: those of the corpora whose labels were used nevertheless, so that its scores on them are upper bounds.
    """

    corpora: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    hours: float = 0.0
    transductive: bool = False
    unsealed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Provenance:
    """What a bundle was trained on: enough to refuse a score on the same speakers or recordings.

    speakers and groups as "corpus/name"; fingerprints of decoded audio (`audio.fingerprint`). leaks: what train.allow_leaks let through.
    chosen_on: what it was not trained on, but its epoch and its temperature were chosen on (the dev side), apart. adapted_to: what it
    heard without labels.
    """

    corpora: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    class_counts: dict[str, int] = field(default_factory=dict)
    hours: float = 0.0
    made_with: dict[str, str] = field(default_factory=dict)
    leaks: tuple[str, ...] = ()
    chosen_on: ChosenOn = ChosenOn()
    adapted_to: AdaptedTo = AdaptedTo()


def names_of(rows: Iterable[Row], fingerprints: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Speakers, groups and fingerprints of utterances as a Provenance keeps them: each once, sorted."""
    rows = list(rows)
    found = ({row.corpus_speaker for row in rows}, {row.corpus_group for row in rows}, set(fingerprints))
    return tuple(tuple(sorted(names)) for names in found)


def known_among(rows: Iterable[Row], speakers: Collection[str], groups: Collection[str]) -> list[str]:
    """Of these rows, who is among known speakers, and which dialogue or session among known groups: "corpus/name", sorted.

    A speaker and a session may have one name ("1") and are not taken for each other.
    """
    rows = list(rows)
    who = {row.corpus_speaker for row in rows} & set(speakers)
    return sorted(who | {row.corpus_group for row in rows if row.group} & set(groups))
