"""A bundle: nothing executable, refuses edits and drift, answers the same alone and in a batch and on any number of threads."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from moodcast import bundle as bundles
from moodcast.bundle import Bundle, Calibration, load, probe_signal, round_to_half, save
from moodcast.chunks import ChunkPlan
from moodcast.methods.erm import Erm
from moodcast.provenance import Provenance
from moodcast.run import Run, build

MYLAB = """
from dataclasses import dataclass
import torch
from torch import nn
from moodcast.batch import Batch, Prediction
from moodcast.method import Method, Weights

class Loudness(Method):
    @dataclass(frozen=True)
    class Config(Method.Config):
        gain: float = 1.0

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.head = nn.Linear(1, len(spec.classes))

    def forward(self, batch):
        power = batch.chunks.square().sum((1, 2)) / batch.lengths.sum(1).clamp(min=1)
        return Prediction(emotion=self.head(self.config.gain * power[:, None]).log_softmax(-1))

    def losses(self, batches):
        batch = batches["labelled"]
        return {"classes": -(batch.target * self(batch).emotion).sum(-1).mean()}
"""


@pytest.fixture
def run() -> Run:
    return Run(method=Erm.Config(), chunks=ChunkPlan(length_s=1.0, hop_s=0.5))


@pytest.fixture
def folder(tmp_path: Path, run: Run) -> Path:
    known = Provenance(corpora=("toy",), speakers=("toy/a",), fingerprints=("00ff",), class_counts={"sad": 2})
    return save(tmp_path / "b", build(run), run, known, scores={"uar": 0.5})


@pytest.fixture
def waves() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(0.1 * rng.standard_normal(n)).astype(np.float32) for n in (4_000, 16_000, 33_333, 50_000)] + [probe_signal(16_000)]


def test_a_bundle_comes_back_as_it_was_saved(folder: Path, run: Run, waves: list[np.ndarray]) -> None:
    loaded = load(folder)
    assert loaded.run == run
    assert loaded.scores == {"uar": 0.5}
    assert loaded.provenance.speakers == ("toy/a",)
    assert loaded.provenance.class_counts == {"sad": 2}
    fresh = Bundle(run, build(run), Provenance(), {}, "", "fresh")
    for ours, theirs in zip(loaded.answer(waves), fresh.answer(waves), strict=True):
        np.testing.assert_array_equal(ours.emotion, theirs.emotion)


def test_answers_are_the_same_alone_in_a_batch_and_on_any_number_of_threads(folder: Path, waves: list[np.ndarray]) -> None:
    loaded = load(folder)
    together = loaded.answer(waves)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for wave, answer in zip(waves, together, strict=True):
                alone = loaded.answer([wave])[0]
                np.testing.assert_allclose(alone.emotion, answer.emotion, atol=1e-4)
                np.testing.assert_allclose(alone.chunk_emotion, answer.chunk_emotion, atol=1e-4)
                assert alone.spans == answer.spans
    finally:
        torch.set_num_threads(before)


def test_probabilities_sum_to_one_and_chunks_cover_the_stretch(folder: Path, waves: list[np.ndarray]) -> None:
    for wave, answer in zip(waves, load(folder).answer(waves), strict=True):
        assert answer.emotion.sum() == pytest.approx(1, abs=1e-5)
        assert answer.chunk_emotion.shape == (len(answer.spans), 4)
        assert (answer.spans[0][0], answer.spans[-1][1]) == (0.0, pytest.approx(len(wave) / 16_000))
        assert answer.emotions[answer.label] == answer.confidence


def test_a_stretch_longer_than_the_plan_is_split_and_merged_by_duration(tmp_path: Path) -> None:
    run = Run(method=Erm.Config(), chunks=ChunkPlan(length_s=0.5, count=4))  # at most 2 s
    loaded = load(save(tmp_path / "b", build(run), run))
    rng = np.random.default_rng(3)
    long = (0.1 * rng.standard_normal(16_000 * 5)).astype(np.float32)
    whole = loaded.answer([long])[0]
    thirds = loaded.answer([long[:26_666], long[26_666:53_333], long[53_333:]])
    np.testing.assert_allclose(whole.emotion, np.mean([part.emotion for part in thirds], axis=0), atol=1e-4)
    assert len(whole.spans) == 12
    assert whole.spans[-1][1] == 5.0


@pytest.mark.parametrize("what", ["setting", "score", "speaker", "weight"])
def test_an_edited_bundle_is_refused(folder: Path, what: str) -> None:
    settings = json.loads((folder / "bundle.json").read_text())
    if what == "setting":
        settings["run"]["train"]["lr"] = 1.0
    elif what == "score":
        settings["scores"]["uar"] = 0.99
    elif what == "speaker":
        settings["provenance"]["speakers"] = []
    else:
        data = bytearray((folder / "weights.safetensors").read_bytes())
        data[-1] ^= 1
        (folder / "weights.safetensors").write_bytes(bytes(data))
    (folder / "bundle.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="changed after the bundle was saved"):
        load(folder)


def test_drift_of_code_is_refused_by_the_probe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Erm.forward

    def drifted(self: Erm, batch: object) -> object:
        prediction = real(self, batch)
        return type(prediction)(**{**vars(prediction), "emotion": (prediction.emotion * 1.2).log_softmax(-1)})

    monkeypatch.setattr(Erm, "forward", drifted)
    with pytest.raises(ValueError, match="probe answer differs"):
        load(folder)
    load(folder, verify=False)


def test_a_method_outside_moodcast_needs_trust_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "loudness.py").write_text(MYLAB)
    monkeypatch.syspath_prepend(str(tmp_path))
    from mylab.loudness import Loudness

    run = Run(method=Loudness.Config(gain=2.0))
    folder = save(tmp_path / "b", build(run, trust=("mylab",)), run)
    del sys.modules["mylab.loudness"]
    with pytest.raises(ValueError, match="refusing to import"):
        load(folder)
    assert "mylab.loudness" not in sys.modules
    assert load(folder, trust=("mylab",)).run.method.gain == 2.0
    del sys.modules["mylab.loudness"], sys.modules["mylab"]


@pytest.mark.parametrize("name", ["os:system", "moodcast.bundle:Bundle", "moodcast.methods.erm:np", "moodcast.methods.nothing:X", "erm"])
def test_a_bundle_cannot_make_us_import_what_it_likes(folder: Path, name: str) -> None:
    settings = json.loads((folder / "bundle.json").read_text())
    settings["run"]["method"]["class"] = name
    settings["sha256"] = bundles.digest(settings, folder / "weights.safetensors")
    (folder / "bundle.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"refusing|not a Method|cannot be imported"):
        load(folder)


def test_a_bundle_of_another_format_says_what_to_do(folder: Path) -> None:
    settings = json.loads((folder / "bundle.json").read_text())
    settings["format"] = 99
    (folder / "bundle.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="Update moodcast"):
        load(folder)


def test_a_bundle_of_the_first_format_opens_and_is_not_calibrated(folder: Path) -> None:
    settings = json.loads((folder / "bundle.json").read_text())
    settings["format"] = 1
    del settings["calibration"]
    settings["sha256"] = bundles.digest(settings, folder / "weights.safetensors")
    (folder / "bundle.json").write_text(json.dumps(settings))
    assert load(folder).calibration == Calibration(temperature=1.0)


def test_a_temperature_is_stored_and_what_is_served_is_that_much_less_sure(tmp_path: Path, run: Run, waves: list[np.ndarray]) -> None:
    method = build(run)
    with torch.no_grad():
        method.head[-1].weight.mul_(20)
    sure = load(save(tmp_path / "sure", method, run)).answer(waves)
    calibrated = load(save(tmp_path / "calibrated", method, run, calibration=Calibration(2.0, 8, 2)))
    assert calibrated.calibration == Calibration(2.0, 8, 2)
    for before, after in zip(sure, calibrated.answer(waves), strict=True):
        assert after.label == before.label
        for name in ("emotion", "chunk_emotion"):
            root = np.sqrt(getattr(before, name))
            np.testing.assert_allclose(getattr(after, name), root / root.sum(-1, keepdims=True), atol=1e-5)


def test_a_temperature_cannot_be_edited_in(folder: Path) -> None:
    settings = json.loads((folder / "bundle.json").read_text())
    settings["calibration"]["temperature"] = 0.5
    (folder / "bundle.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="changed after the bundle was saved"):
        load(folder)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        Calibration(temperature)


def test_weights_of_another_shape_are_refused(folder: Path, tmp_path: Path, run: Run) -> None:
    settings = json.loads((folder / "bundle.json").read_text())
    settings["run"]["labels"]["classes"] = ["a", "b", "c"]
    settings["sha256"] = bundles.digest(settings, folder / "weights.safetensors")
    (folder / "bundle.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="weights do not fit"):
        load(folder)


def test_a_folder_that_is_no_bundle_is_named_with_what_may_be_meant(tmp_path: Path, run: Run) -> None:
    with pytest.raises(ValueError, match=r"is not a bundle: .* ships with moodcast \(default, voiceprint\)\.$"):
        load(tmp_path)
    with pytest.raises(ValueError, match="Did you mean 'default'"):
        load("defualt")
    save(tmp_path / "bundle", build(run), run)
    with pytest.raises(ValueError, match=f"Did you mean {re.escape(str(tmp_path / 'bundle'))}"):
        load(tmp_path)


def test_a_bundle_below_the_home_of_a_user_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load(f"~/{folder.name}").sha256 == load(folder).sha256


def test_a_bundle_in_the_folder_of_a_run_is_called_as_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    assert load(save(tmp_path / "first" / "bundle", build(run), run)).name == "first"
    assert load(save(tmp_path / "mine", build(run), run)).name == "mine"
    for inside, name in (("first/bundle", "first"), ("mine", "mine")):
        monkeypatch.chdir(tmp_path / inside)
        assert load(".").name == name


def test_rounded_matrices_take_half_the_bytes_and_come_back_as_they_were_rounded(tmp_path: Path, run: Run) -> None:
    method = build(run)
    weights = method.state_dict()
    first, *others = [name for name, value in weights.items() if value.dim() > 1]
    weights[first][0, 0] = 1e6  # float16 ends at 65504
    before = weights[others[0]].clone()
    round_to_half(method)
    assert not torch.equal(weights[others[0]], before)
    torch.testing.assert_close(weights[others[0]], before, rtol=2**-11, atol=2**-25)
    kept = load_file(save(tmp_path / "rounded", method, run) / "weights.safetensors")
    assert {name for name, value in kept.items() if value.dtype == torch.float16} == set(others)
    opened = load(tmp_path / "rounded").method.state_dict()
    assert all(opened[name].dtype == value.dtype and torch.equal(opened[name], value) for name, value in weights.items())


def test_saving_leaves_training_mode_and_random_state_alone(tmp_path: Path, run: Run) -> None:
    method = build(run).train()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    save(tmp_path / "b", method, run)
    assert method.training
    assert torch.equal(torch.rand(3), expected)


def test_a_bundle_holds_no_pickle_and_only_its_three_files(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "bundle.json", "weights.safetensors"]
    assert not any(p.read_bytes().startswith((b"\x80", b"PK")) for p in folder.iterdir())


def test_whoever_may_read_the_settings_may_read_the_weights(folder: Path) -> None:
    assert (folder / "weights.safetensors").stat().st_mode == (folder / "bundle.json").stat().st_mode


def test_predict_takes_a_path_bytes_or_samples(folder: Path, tmp_path: Path) -> None:
    import soundfile

    wave = probe_signal(16_000)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    loaded = load(folder)
    by_samples = loaded.predict((wave, 16_000))
    for source in (tmp_path / "a.wav", str(tmp_path / "a.wav"), (tmp_path / "a.wav").read_bytes()):
        np.testing.assert_allclose(loaded.predict(source).emotion, by_samples.emotion, atol=1e-5)


@pytest.mark.parametrize("wave", [np.zeros(0, np.float32), np.zeros((2, 100), np.float32), np.full(1000, np.nan, np.float32)])
def test_what_is_no_stretch_of_audio_is_refused(folder: Path, wave: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"stretch|samples"):
        load(folder).answer([wave])


@pytest.mark.parametrize("part", ["run", "provenance", "probe", "scores"])
@pytest.mark.parametrize("instead", [None, [1], "words"])
def test_settings_that_lack_a_part_or_hold_another_thing_are_one_sentence(folder: Path, part: str, instead: object) -> None:
    settings = json.loads((folder / "bundle.json").read_text())
    del settings[part]
    if instead is not None:
        settings[part] = instead
    settings["sha256"] = bundles.digest(settings, folder / "weights.safetensors")
    (folder / "bundle.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"lacks a part|dictionary update sequence"):
        load(folder)


@pytest.mark.parametrize(
    ("plan", "seconds"),
    [(ChunkPlan(length_s=1.0, count=11), 0.5), (ChunkPlan(length_s=1.0, hop_s=0.1), 3.0), (ChunkPlan(length_s=3.0, hop_s=3.0), 3.1)],
)
def test_the_chunks_of_a_pass_are_bounded_however_often_they_say_the_same(
    plan: ChunkPlan, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(method=Erm.Config(width=8, channels=1), chunks=plan)
    opened = Bundle(run, build(run), Provenance(), {}, "", "b")
    passes, collate = [], bundles.collate
    monkeypatch.setattr(bundles, "MAX_BATCH_S", 40.0)
    monkeypatch.setattr(bundles, "collate", lambda *given, **named: passes.append(collate(*given, **named)) or passes[-1])
    assert len(opened.answer([probe_signal(16_000, seconds)] * 8)) == 8
    heard = [batch.chunks.numel() / 16_000 for batch in passes]
    assert max(heard) <= 40
    assert heard[0] > 20, "a pass holds as many as fit"
