"""Statistics of whole utterances for studies of corpora: plain, eGeMAPS or ComParE, each computed once for each sound and kept.

Shapes: N utterances, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from moodcast import features
from moodcast.cache import open_arrays, open_waves
from moodcast.manifest import Utterance
from moodcast.nn import functionals
from moodcast.nn.identity import identity

Features = Literal["plain", "egemaps", "compare"]
RATE = 16_000  # Hz
NUM_MELS, FFT, LOW_HZ, HIGH_HZ = 40, 512, 60.0, 7600.0  # of the plain set, as methods/functionals.py has it


def statistics_of(
    rows: Sequence[Utterance], kind: Features, root: Path | None = None, progress: Callable[[int, int], None] | None = None
) -> NDArray[np.float64]:
    """One of the three sets for every row, [N, F], finite. What was computed before, by anybody, is read from the cache at `root`.

    progress(done, total) is told after each row that is computed. Raises ValueError where opensmile is wanted and not installed.
    """
    smile: Any = None if kind == "plain" else functionals.opensmile_set(kind)
    filters = features.mel_filters(NUM_MELS, FFT, RATE, LOW_HZ, HIGH_HZ)
    version = str(getattr(smile, "version", ""))
    kept = open_arrays(identity(nn.Identity(), kind, str(RATE), version, code=(functionals, features)), root)
    waves = open_waves(rows, RATE, root)
    for i, name in enumerate(waves.digests):
        if not kept.has(name):
            wave = np.asarray(waves[i])
            found = functionals.plain(wave, RATE, filters) if smile is None else functionals.opensmile_features(smile, wave, RATE)
            kept.put(name, found)
        if progress is not None:
            progress(i + 1, len(rows))
    return np.stack([kept.get(name) for name in waves.digests]).astype(np.float64)
