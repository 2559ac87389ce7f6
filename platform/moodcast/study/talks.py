"""Conversations to score the chain on, made of utterances of speakers that it has not heard, with the truth about them.

Each turn is one utterance, so that it has one emotion; otherwise they go as `moodcast.simulate` has them: gaps, overlaps, words in
between, rooms, noise, levels. Where a corpus gives each speaker one emotion (resd), so do these conversations; else emotions are mixed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from moodcast.chunks import samples_of
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.simulate import RATE, Scene, conversation
from moodcast.timeline import Segment, Timeline

Wave = NDArray[np.float32]
SCENE = Scene(seconds=120.0, speakers=(2, 4), utterances=1.0, pause_s=0.5)


@dataclass(frozen=True)
class Talk:
    """Mono samples [N] at `rate` Hz, and who said what in which emotion."""

    uri: str
    wave: Wave
    rate: int
    reference: Timeline

    def samples(self, row: Segment) -> Wave:
        """What is heard in a turn of the reference."""
        return self.wave[samples_of(row.start_s, self.rate) : samples_of(row.stop_s, self.rate)]


def simulated(rows: Sequence[Utterance], labels: Labels, num: int, scene: Scene = SCENE, seed: int = 0, rate: int = RATE) -> Iterator[Talk]:
    """`num` conversations of the utterances that have one of the classes, the same for the same arguments.

    Raises ValueError where there are too few speakers.
    """
    emotions = {row.id: name for row in rows if (name := labels.name(row)) is not None}
    speakers: dict[str, list[Utterance]] = {}
    for row in rows:
        if row.id in emotions:
            speakers.setdefault(row.corpus_speaker, []).append(row)
    most = min(scene.speakers[1], len(speakers))
    if most < scene.speakers[0]:
        raise ValueError(
            f"conversations of {scene.speakers[0]} speakers need as many with classes of the bundle; these rows have {len(speakers)}"
        )
    scene = replace(scene, speakers=(scene.speakers[0], most))
    for number in range(num):
        made = conversation(speakers, scene, (seed, number), rate=rate)
        segments = tuple(
            Segment(speaker=one.speaker, start_s=one.start_s, stop_s=one.stop_s, emotion=emotions[one.utterance], overlap=one.overlap)
            for one in made.said
        )
        reference = Timeline(uri=f"talk_{seed}_{number:03d}", duration_s=made.duration_s, classes=labels.classes, segments=segments)
        yield Talk(reference.uri, made.wave, rate, reference)
