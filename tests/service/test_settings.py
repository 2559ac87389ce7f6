from __future__ import annotations

from pathlib import Path

import pytest

from moodcast.service.settings import Settings, from_environment


def test_settings_come_from_the_environment_and_named_ones_win() -> None:
    found = from_environment({"max_hours": "2"}, {"MOODCAST_MAX_MB": "5", "MOODCAST_MAX_HOURS": "9", "MOODCAST_THREADS": "3", "OTHER": "x"})
    assert (found.max_mb, found.max_hours, found.threads) == (5.0, 2.0, 3)
    assert found.max_bytes == 5_000_000
    assert found.torch_threads == 3


def test_threads_are_no_more_than_the_cores_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # what counts them heeds this, as it heeds affinity and a container's quota
    assert Settings().torch_threads == 1


def test_an_empty_variable_counts_as_unset() -> None:
    assert from_environment({}, {"MOODCAST_MAX_MB": ""}) == Settings()


def test_a_value_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"max_mb: 'many' does not fit"):
        from_environment({}, {"MOODCAST_MAX_MB": "many"})
    with pytest.raises(ValueError, match=r"MOODCAST_MAX_HOURS must be positive, got 0"):
        from_environment({}, {"MOODCAST_MAX_HOURS": "0"})
    with pytest.raises(ValueError, match=r"must not be negative"):
        Settings(max_waiting=-1)


def test_a_field_that_does_not_exist_has_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"Did you mean 'max_mb'"):
        from_environment({"max_bm": "5"}, {})


def test_the_folder_of_a_bundle_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    found = from_environment({"bundle": "mine"}, {})
    assert found.bundle == str(tmp_path / "mine")
    assert found.voiceprint == "voiceprint"


def test_models_that_hold_pickles_are_named_at_the_start_and_trusted_by_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pipeline").mkdir()
    monkeypatch.chdir(tmp_path)
    found = from_environment({}, {"MOODCAST_DIARIZER": "pipeline", "MOODCAST_TRUST_CHECKPOINT": "true", "MOODCAST_MIN_CONFIDENCE": "0.4"})
    assert (found.diarizer, found.trust_checkpoint) == (str(tmp_path / "pipeline"), True)
    assert found.refinement.min_confidence == 0.4
    assert from_environment({}, {}).trust_checkpoint is False
    assert from_environment({}, {}).refinement.min_confidence is None


def test_a_language_wants_a_transcriber() -> None:
    with pytest.raises(ValueError, match="MOODCAST_LANGUAGE=de is what a transcriber hears"):
        from_environment({"language": "de"}, {})
    assert from_environment({"language": "de", "transcriber": "owner/name"}, {}).language == "de"


def test_trust_wants_a_pipeline_to_be_trusted() -> None:
    with pytest.raises(ValueError, match="name one with MOODCAST_DIARIZER"):
        from_environment({"trust_checkpoint": "true"}, {})


def test_smoothing_that_is_not_known_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="wanted median:N"):
        from_environment({"smooth": "mean:3"}, {})
