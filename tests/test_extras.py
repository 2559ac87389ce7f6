"""What comes with an extra is named with it where it is missing."""

from __future__ import annotations

import json.decoder
import os

import pytest

from moodcast.extras import library


def test_a_library_that_is_there_is_given_with_its_telemetry_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY", raising=False)
    assert library("json.decoder", "encoders", "tests need") is json.decoder
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_a_library_that_is_missing_is_named_with_its_extra() -> None:
    with pytest.raises(ValueError, match=r"^encoders need the library no_such_thing: pip install 'moodcast\[encoders\]'$"):
        library("no_such_thing.below", "encoders", "encoders need the library")
