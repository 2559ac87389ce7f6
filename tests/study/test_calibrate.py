"""A temperature: found where it is known, chosen on new speakers only, stored so that it is served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from moodcast import metrics
from moodcast.bundle import Bundle, Calibration, load, save
from moodcast.cache import open_waves
from moodcast.manifest import Utterance
from moodcast.methods.erm import Erm
from moodcast.provenance import ChosenOn, Provenance
from moodcast.run import Run, build
from moodcast.study import calibrate
from moodcast.study.calibrate import fit, temperature_of
from moodcast.study.talks import SCENE

CLASSES = ("angry", "happy", "neutral", "sad")


def honest(num: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities that hold: the class is drawn from them."""
    rng = np.random.default_rng(seed)
    given = rng.dirichlet(np.full(4, 0.5), num)
    truth = np.array([rng.choice(4, p=row) for row in given])
    return np.log(np.maximum(given, 1e-12)), truth


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_what_made_answers_too_sure_or_too_unsure(factor: float) -> None:
    logs, truth = honest()
    found = temperature_of(factor * logs, truth)
    assert found == pytest.approx(factor, rel=0.1)
    calibrated = np.exp(factor * logs / found)
    calibrated /= calibrated.sum(1, keepdims=True)
    assert float(metrics.calibration_error(metrics.confidence_sums(calibrated, truth).sum(0))) < 0.04


def test_answers_that_are_always_right_or_always_wrong_stay_within_bounds() -> None:
    logs, _ = honest(100)
    low, high = calibrate.BOUNDS
    assert temperature_of(logs, logs.argmax(1)) == pytest.approx(low, rel=0.05)
    assert temperature_of(logs, logs.argmin(1)) == pytest.approx(high, rel=0.05)


def test_a_probability_of_zero_does_not_decide_alone() -> None:
    logs, truth = honest()
    logs[0] = [-np.inf, 0.0, -np.inf, -np.inf]
    truth[0] = 0
    assert 0.8 < temperature_of(logs, truth) < 2.0


@pytest.mark.parametrize(
    ("logs", "truth"), [(np.zeros((0, 4)), np.zeros(0, int)), (np.zeros(4), np.zeros(4, int)), (np.zeros((3, 4)), np.zeros(2, int))]
)
def test_shapes_that_do_not_fit_are_refused(logs: np.ndarray, truth: np.ndarray) -> None:
    with pytest.raises(ValueError, match="temperature is fitted on"):
        temperature_of(logs, truth)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An untrained bundle made far too sure."""
    run = Run(method=Erm.Config(width=16, channels=4))
    method = build(run)
    with torch.no_grad():
        method.head[-1].weight.mul_(200)
    return save(tmp_path / "sure", method, run, Provenance(speakers=("toy/old",)), {"uar": 0.3}, "# my card\n")


@pytest.fixture
def rows(write_wav: Callable[..., Path], speechlike: Callable[..., np.ndarray]) -> list[Utterance]:
    """Four recordings of each of six speakers, on the dev side; the labels have nothing to do with the sound."""
    made = []
    for i in range(24):
        path = write_wav(f"{i}.wav", speechlike(0.4, seed=i))
        made.append(Utterance(id=f"u{i}", path=str(path), corpus="toy", speaker=f"s{i % 6}", emotion=CLASSES[i % 4], split="dev"))
    return made


def test_a_bundle_that_is_too_sure_is_cooled_and_serves_that(folder: Path, rows: list[Utterance], tmp_path: Path) -> None:
    before = load(folder)
    found = fit(before, rows, root=tmp_path / "cache")
    assert found.temperature > 2
    assert (found.num_utterances, found.num_speakers) == (24, 6)
    assert found.fitted_on.speakers == tuple(f"toy/s{i}" for i in range(6))
    assert len(found.fitted_on.fingerprints) == 24
    calibrate.store(folder, found)
    after = load(folder)
    assert after.calibration == found
    assert after.scores == {"uar": 0.3}
    assert (folder / "README.md").read_text() == "# my card\n"
    assert after.sha256 != before.sha256
    wave = rows[0].path
    assert after.predict(wave).label == before.predict(wave).label
    assert after.predict(wave).confidence < before.predict(wave).confidence
    assert fit(after, rows, root=tmp_path / "cache").temperature == pytest.approx(found.temperature, rel=1e-3)


def test_a_full_disk_leaves_the_old_calibration(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, write = load(folder), Path.write_text

    def half(self: Path, text: str, **how: str) -> int:
        write(self, text[: len(text) // 2] if self.name == "bundle.json" else text, **how)
        if self.name == "bundle.json":
            raise OSError("no space left on device")
        return len(text)

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="no space"):
        calibrate.store(folder, Calibration(3.0, 24, 6))
    assert load(folder).sha256 == before.sha256
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_a_temperature_is_not_fitted_on_speakers_of_training(folder: Path, rows: list[Utterance]) -> None:
    heard = [Utterance(id="x", path=rows[0].path, corpus="toy", speaker="old", emotion="sad", split="dev"), *rows]
    with pytest.raises(ValueError, match="trained on toy/old"):
        fit(load(folder), heard)


def test_a_temperature_is_not_fitted_on_recordings_of_training_under_other_names(folder: Path, rows: list[Utterance]) -> None:
    bundle = load(folder)
    chosen = [row for row in rows if row.split == "dev"]
    mark = open_waves(chosen, bundle.rate).fingerprints[0]
    known = Bundle(bundle.run, bundle.method, Provenance(fingerprints=(mark,)), {}, "", "b")
    with pytest.raises(ValueError, match=f"trained on the recordings {chosen[0].id}"):
        fit(known, rows)
    with pytest.raises(ValueError, match=f"trained on the recordings {chosen[0].id}"):
        calibrate.fit_conversations(known, rows)


def test_a_bundle_that_ships_is_not_calibrated_into_the_folder_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="copied first"):
        calibrate.store("default", Calibration(2.0, 30, 3))
    assert not list(tmp_path.iterdir())


def test_too_few_utterances_leave_a_bundle_as_it_is(folder: Path, rows: list[Utterance]) -> None:
    assert fit(load(folder), rows[:10]) == Calibration()
    assert fit(load(folder), rows, split="test") == Calibration()


def test_answers_of_a_few_utterances_have_no_temperature() -> None:
    logs, truth = honest(calibrate.FEWEST)
    assert calibrate.of_answers(np.exp(logs[:-1]), truth[:-1].tolist(), ["a"] * (len(truth) - 1)) == Calibration()
    found = calibrate.of_answers(np.exp(logs), truth.tolist(), ["a", "b"] * (len(truth) // 2))
    assert (found.num_utterances, found.num_speakers) == (calibrate.FEWEST, 2)


def test_utterances_and_turns_of_conversations_each_have_their_temperature(folder: Path, rows: list[Utterance]) -> None:
    plain = load(folder)
    bundle = replace_calibration(plain, Calibration(2.0, 30, 3, 0.4, turn_temperature=4.0, num_turns=50, num_turn_speakers=5))
    wave = open_waves([rows[0]], plain.rate)[0]
    logs = plain.answer([wave])[0].emotion
    for told, temperature in ((bundle, 2.0), (bundle.in_conversations, 4.0)):
        cooled = np.log(logs) / temperature
        np.testing.assert_allclose(told.answer([wave])[0].emotion, np.exp(cooled) / np.exp(cooled).sum(), atol=1e-5)
    assert bundle.in_conversations.calibration.min_confidence == 0.4
    assert plain.in_conversations is plain, "nothing is known of conversations: as for utterances"
    again = fit(bundle, rows)
    assert (again.turn_temperature, again.num_turns, again.num_turn_speakers, again.min_confidence) == (4.0, 50, 5, 0.4)
    assert again.temperature == fit(plain, rows).temperature
    calibrate.store(folder, again)
    assert load(folder).calibration == again


def replace_calibration(bundle: Bundle, calibration: Calibration) -> Bundle:
    return Bundle(bundle.run, bundle.method, bundle.provenance, {}, "", bundle.name, calibration)


def test_turns_of_conversations_cool_a_bundle_too_and_choose_what_is_withheld(folder: Path, rows: list[Utterance]) -> None:
    before = load(folder)
    scene = replace(SCENE, seconds=15.0)
    found = calibrate.fit_conversations(before, rows, num=3, scene=scene)
    assert found.turn_temperature is not None
    assert found.turn_temperature > 2
    assert found.num_turns >= 20
    assert (found.fitted_on, found.turns_fitted_on) == (ChosenOn(), fit(before, rows).fitted_on)
    assert (found.temperature, found.num_utterances, found.min_confidence) == (1.0, 0, 0.0)
    assert calibrate.fit_conversations(before, rows, num=3, scene=scene) == found
    wanted = calibrate.fit_conversations(before, rows, num=3, scene=scene, accuracy=0.0)
    assert wanted == found  # nothing need be withheld for that
    with pytest.raises(ValueError, match="no bound on confidence"):
        calibrate.fit_conversations(before, rows, num=3, scene=scene, accuracy=1.0)
    heard = [Utterance(id="x", path=rows[0].path, corpus="toy", speaker="old", emotion="sad", split="dev"), *rows]
    with pytest.raises(ValueError, match="trained on toy/old"):
        calibrate.fit_conversations(before, heard)
