"""ONNX: the same answers at any length and batch size, what a runtime needs to know beside them, and no file that answers otherwise."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from moodcast import export
from moodcast.adapting import Front
from moodcast.batch import Batch, Prediction, collate
from moodcast.bundle import Bundle, Calibration, load, probe_signal, save
from moodcast.chunks import ChunkPlan
from moodcast.features import LogMel
from moodcast.labels import Labels
from moodcast.methods.erm import Erm
from moodcast.methods.functionals import Functionals
from moodcast.methods.pretrained import Pretrained
from moodcast.methods.target_norm import TargetNorm
from moodcast.methods.word_chunks import WordChunks
from moodcast.provenance import Provenance
from moodcast.run import Run, build

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Path]:
    bundle = load()
    return bundle, export.to_onnx(bundle, tmp_path_factory.mktemp("onnx") / "default.onnx")


def run_onnx(path: Path, bundle: Bundle, waves: list[np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    batch = collate(waves, bundle.run.chunks, bundle.rate)
    found: list[np.ndarray] = session.run(None, {"chunks": batch.chunks.numpy(), "lengths": batch.lengths.numpy()})
    return found


@pytest.mark.parametrize("seconds", [[0.02], [0.5], [3.0], [3.01, 0.1], [12.3], [1.0] * 7, [2.0, 30.0, 0.4, 5.9]])
def test_the_default_bundle_answers_the_same_at_any_length_and_batch_size(default: tuple[Bundle, Path], seconds: list[float]) -> None:
    bundle, path = default
    rng = np.random.default_rng(len(seconds))
    waves = [(0.1 * rng.standard_normal(round(s * bundle.rate))).astype(np.float32) for s in seconds]
    for wave, log_probs in zip(waves, run_onnx(path, bundle, waves)[0], strict=True):
        np.testing.assert_allclose(log_probs, np.log(bundle.answer([wave])[0].emotion), atol=1e-4)


@pytest.mark.corpora
def test_real_speech_is_answered_the_same_with_its_chunks(default: tuple[Bundle, Path], corpora: Path) -> None:
    from moodcast.audio import read
    from moodcast.corpora import prepare

    bundle, path = default
    waves = [read(row.path) for row in prepare("emodb", corpora / "emodb")[:12]]
    answers = bundle.answer(waves)
    log_probs, chunk_log_probs = run_onnx(path, bundle, waves)
    for i, answer in enumerate(answers):
        np.testing.assert_allclose(log_probs[i], np.log(answer.emotion), atol=1e-4)
        np.testing.assert_allclose(chunk_log_probs[i, : len(answer.spans)], np.log(answer.chunk_emotion), atol=1e-4)


def test_writing_leaves_the_bundle_as_it_was(default: tuple[Bundle, Path]) -> None:
    bundle, _ = default
    assert not any(module.training for module in bundle.method.modules())
    np.testing.assert_array_equal(bundle.raw([probe_signal(16_000)]).emotion, load().raw([probe_signal(16_000)]).emotion)


def test_silence_and_loudness_are_answered_the_same(default: tuple[Bundle, Path]) -> None:
    bundle, path = default
    waves = [np.zeros(16_000, np.float32), 1e-4 * probe_signal(16_000), 9 * probe_signal(16_000)]
    np.testing.assert_allclose(run_onnx(path, bundle, waves)[0], bundle.raw(waves).emotion, atol=1e-4)


def test_the_file_says_what_it_needs_and_what_it_answers(default: tuple[Bundle, Path]) -> None:
    bundle, path = default
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == list(bundle.classes)
    assert int(told["sampling_rate"]) == bundle.rate
    assert json.loads(told["chunks"])["length_s"] == bundle.run.chunks.length_s
    assert told["sha256"] == bundle.sha256
    assert [entry.name for entry in session.get_inputs()] == ["chunks", "lengths"]
    assert session.get_inputs()[0].shape[2] == int(told["chunk_samples"])
    assert [entry.name for entry in session.get_outputs()] == ["log_probs", "chunk_log_probs"]


@pytest.mark.parametrize("plan", [ChunkPlan(length_s=0.5, count=4), ChunkPlan(length_s=0.6, hop_s=0.3)])
def test_other_plans_and_a_temperature_travel_along(tmp_path: Path, plan: ChunkPlan) -> None:
    run = Run(method=Erm.Config(width=16, channels=4), chunks=plan)
    bundle = load(save(tmp_path / "b", build(run), run, calibration=Calibration(0.25, 10, 2)))
    path = export.to_onnx(bundle, tmp_path / "deep" / "b.onnx")
    waves = [probe_signal(16_000, seconds) for seconds in (1.9, 0.2)]
    np.testing.assert_allclose(run_onnx(path, bundle, waves)[0], bundle.raw(waves).emotion, atol=1e-4)
    assert export.compare(bundle, path) < 1e-4
    assert [p.name for p in path.parent.iterdir()] == ["b.onnx"]


def test_attributes_are_written_beside_the_classes(tmp_path: Path) -> None:
    run = Run(method=Erm.Config(width=16, channels=4), labels=Labels(attributes=("arousal", "valence")))
    bundle = load(save(tmp_path / "rating", build(run), run))
    path = export.to_onnx(bundle, tmp_path / "rating.onnx")
    waves = [probe_signal(16_000, 2.2), probe_signal(16_000, 0.4)]
    *_, values = run_onnx(path, bundle, waves)
    np.testing.assert_allclose(values, np.stack([answer.attributes for answer in bundle.answer(waves)]), atol=1e-4)
    session = onnxruntime.InferenceSession(str(path))
    assert [output.name for output in session.get_outputs()] == ["log_probs", "chunk_log_probs", "attributes"]
    assert json.loads(session.get_modelmeta().custom_metadata_map["attributes"]) == ["arousal", "valence"]


def test_a_file_that_answers_otherwise_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(method=Erm.Config(width=16, channels=4))
    bundle = load(save(tmp_path / "b", build(run), run))
    real = export.log_mel_by_convolution
    monkeypatch.setattr(
        export, "log_mel_by_convolution", lambda *parts: tuple(part * 0.97 if i == 0 else part for i, part in enumerate(real(*parts)))
    )
    with pytest.raises(ValueError, match=f"{tmp_path} is a folder; wanted the name of a file in it"):
        export.to_onnx(bundle, tmp_path)
    with pytest.raises(ValueError, match="answers otherwise"):
        export.to_onnx(bundle, tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_a_method_without_classes_or_with_what_onnx_has_not_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(method=Erm.Config(width=16, channels=4))
    bundle = load(save(tmp_path / "b", build(run), run))
    with monkeypatch.context() as patched:
        patched.setattr(Erm, "forward", lambda self, batch: Prediction(embedding=batch.chunks.sum((1, 2))))
        with pytest.raises(ValueError, match="answers no classes"):
            export.to_onnx(bundle, tmp_path / "b.onnx")
    monkeypatch.setattr(
        Erm, "forward", lambda self, batch: Prediction(emotion=torch.fft.fft(batch.chunks[:, 0, :8]).real[:, :4].log_softmax(-1))
    )
    with pytest.raises(ValueError, match=r"cannot be written as ONNX, which lacks something .*\(torch: .*\); a method that hears log-mel"):
        export.to_onnx(bundle, tmp_path / "b.onnx")


def test_features_that_leave_torch_are_refused_in_a_sentence_and_so_is_the_rest_without_a_graph(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for config in (Functionals.Config(classifier="mlp"), TargetNorm.Config(front=Front(kind="functionals"))):
        run = Run(method=config)
        with pytest.raises(ValueError, match="cannot be written as ONNX: its features are computed outside of torch"):
            export.to_onnx(Bundle(run, build(run), Provenance(), {}, "", "b"), tmp_path / "b.onnx")
    run = Run(method=WordChunks.Config(width=8, heads=1, layers=1))
    with pytest.raises(ValueError, match=r"^b \(WordChunks\) cannot be written as ONNX: it cuts the sound by .* such as erm, can be"):
        export.to_onnx(Bundle(run, build(run), Provenance(), {}, "", "b"), tmp_path / "b.onnx")
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_without_the_extra_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from moodcast.cli import words

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError) as refused:
        export.to_onnx(load(), tmp_path / "b.onnx")
    assert "pip install 'moodcast[onnx]'" in str(words.explain(refused.value))


@pytest.mark.parametrize("samples", [100, 400, 16_000, 16_123])
def test_log_mel_by_convolution_is_log_mel(samples: int) -> None:
    log_mel = LogMel(16_000, 64)
    waves = torch.from_numpy(np.random.default_rng(0).standard_normal((2, samples)).astype(np.float32))
    lengths = torch.tensor([samples, samples // 2])
    ours, theirs = export.log_mel_by_convolution(log_mel, waves, lengths), log_mel(waves, lengths)
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-4, rtol=1e-4)
    assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("family", ["wavlm", "hubert", "whisper", "wav2vec2-bert"])
@pytest.mark.parametrize("plan", [ChunkPlan(length_s=1.0, hop_s=0.5), ChunkPlan(length_s=0.8, count=3)])
def test_encoders_of_every_kind_of_input_are_written(family: str, plan: ChunkPlan, tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = Run(method=Pretrained.Config(encoder=f"random/{family}", width=8), chunks=plan)
    bundle = load(save(tmp_path / "b", build(run), run))
    path = export.to_onnx(bundle, tmp_path / "b.onnx")
    rng = np.random.default_rng(1)
    waves = [(0.1 * rng.standard_normal(round(s * bundle.rate))).astype(np.float32) for s in (2.1, 0.01, 0.7, 1.0)]
    np.testing.assert_allclose(run_onnx(path, bundle, waves)[0], bundle.raw(waves).emotion, atol=1e-4)
    np.testing.assert_allclose(run_onnx(path, bundle, waves[2:3])[0], bundle.raw(waves[2:3]).emotion, atol=1e-4)


def test_a_file_that_does_not_run_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Such as one in which the tracer took the size of a batch for a constant."""

    def traced(_: Erm, batch: Batch) -> Prediction:
        parts = batch.chunks[:, 0].reshape(len(batch.chunks), 4, -1).mean(-1)
        return Prediction(emotion=(parts * batch.lengths.sum(1, keepdim=True)).log_softmax(-1))

    monkeypatch.setattr(Erm, "forward", traced)
    run = Run(method=Erm.Config(width=16, channels=4))
    with pytest.raises(ValueError, match=r"b \(Erm\) cannot be written as ONNX, the file does not run \(onnxruntime: .*Reshape"):
        export.to_onnx(Bundle(run, build(run), Provenance(), {}, "", "b"), tmp_path / "b.onnx")
    assert capfd.readouterr().err == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("samples", "n"), [(400, None), (400, 512), (7, 8)])
def test_frames_and_their_transform_by_products_are_the_plain_ones(samples: int, n: int | None) -> None:
    waves = torch.randn(2, 1_999, generator=torch.Generator().manual_seed(0))
    frames = waves.unfold(-1, samples, 160)
    assert torch.equal(export.unfold_by_convolution(waves, -1, samples, 160), frames)
    theirs = torch.view_as_real(torch.fft.rfft(frames, n=n))
    torch.testing.assert_close(export.rfft_by_product(frames, n), theirs, atol=1e-4, rtol=0)


def test_layer_norm_in_parts_is_layer_norm() -> None:
    values, weight, bias = torch.randn(3, 4, 5), torch.randn(4, 5), torch.randn(4, 5)
    expected = torch.nn.functional.layer_norm(values, (4, 5), weight, bias)
    torch.testing.assert_close(export.layer_norm_in_parts(values, (4, 5), weight, bias), expected)
