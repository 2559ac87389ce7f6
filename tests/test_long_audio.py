"""Long recordings cost the embedded diarizer time, not memory: the benchmark's own measurement at a small size."""

from __future__ import annotations

from pathlib import Path

import pytest

from moodcast.embedded import default_diarizer


@pytest.mark.corpora
def test_minutes_more_of_audio_are_not_held_in_memory(corpora: Path) -> None:
    from benchmarks.long_audio import RATE, conversations, measured

    piece, diarizer = conversations(corpora / "cremad", 2.0), default_diarizer()
    for _ in range(2):  # warm
        short_mb, _ = measured(diarizer, piece, 2.0)
    long_mb, speed = measured(diarizer, piece, 16.0)
    samples_mb = 60 * (16 - 2) * RATE * 4 / 2**20
    assert long_mb - short_mb < 0.6 * samples_mb
    assert speed > 10.0
