"""What the tests of the interface send."""

from __future__ import annotations

import numpy as np
import pytest

from tests.service.asking import RATE, wav


@pytest.fixture(scope="module")
def sound() -> bytes:
    """Three seconds and a half of a tone, as a wav."""
    t = np.arange(int(3.5 * RATE)) / RATE
    return wav((0.25 * np.sin(2 * np.pi * 220 * t)).astype(np.float32))
