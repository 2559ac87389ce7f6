from __future__ import annotations

import numpy as np
import pytest

from moodcast.nn import lost

RATE = 16_000


@pytest.mark.parametrize(
    ("stay_well", "stay_lost", "share", "burst"), [(0.9, 0.5, 1 / 6, 2.0), (0.95, 0.3, 0.0667, 1.43), (0.8, 0.8, 0.5, 5.0)]
)
def test_packets_are_lost_as_often_and_in_as_long_bursts_as_the_specification_says(
    stay_well: float, stay_lost: float, share: float, burst: float
) -> None:
    gone = lost.packets(200_000, stay_well, stay_lost, np.random.default_rng(0))
    assert gone.mean() == pytest.approx(share, rel=0.03)
    begins = int(gone[0]) + int((gone[1:] & ~gone[:-1]).sum())
    assert gone.sum() / begins == pytest.approx(burst, rel=0.03)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_frames_is_silent_and_the_rest_untouched(share: float) -> None:
    wave = np.ones(RATE + 7, dtype=np.float32)
    heard = lost.without_frames(wave, RATE, share, np.random.default_rng(1))
    assert heard.dtype == np.float32
    silent = [not heard[start : start + 320].any() for start in range(0, len(heard), 320)]
    assert sum(silent) == int(share * 51)
    assert set(np.unique(heard)) <= {0.0, 1.0}
    assert (lost.without_packets(wave, RATE, 1.0, 0.5, np.random.default_rng(1)) == wave).all()


def test_words_are_lost_by_place_so_that_a_repeated_word_is_lost_once() -> None:
    gone = lost.lost_words(4, 0.5, np.random.default_rng(3))
    assert len(gone) == 2
    assert lost.without_words("no no no yes", [0, 2]) == "no yes"
    assert lost.without_words("no no", lost.lost_words(2, 1.0, np.random.default_rng(0))) == ""
