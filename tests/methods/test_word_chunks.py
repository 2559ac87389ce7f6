"""WordChunks: which modalities an answer rests on, how pieces are aligned, text encoders in a bundle, and the bundle at work."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import tokenizers
import torch
import transformers

from moodcast import bundle
from moodcast.batch import Batch, as_bytes, collate
from moodcast.chunks import ChunkPlan
from moodcast.diarize import Given, Turn
from moodcast.labels import Labels
from moodcast.manifest import Utterance
from moodcast.methods.word_chunks import WordChunks
from moodcast.nn import text, words
from moodcast.run import Run, build

RATE = 16_000
PLAN = ChunkPlan(length_s=3.0, hop_s=3.0)
LABELS = Labels(("good", "bad"))


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(int(RATE * seconds))).astype(np.float32)


def made(seed: int = 0, **settings: object) -> WordChunks:
    run = Run(method=WordChunks.Config(**settings), labels=LABELS, chunks=PLAN)
    method = build(dataclasses.replace(run, train=dataclasses.replace(run.train, seed=seed)))
    assert isinstance(method, WordChunks)
    return method


def rows_of(texts: list[str | None], num_words: int = 0) -> list[Utterance]:
    times = tuple((str(n), 1.0 + 0.3 * n, 1.2 + 0.3 * n) for n in range(num_words))
    names = ["good", "bad"]
    return [
        Utterance(id=str(n), path="-", corpus="toy", emotion=names[n % 2], text=text, start_s=1.0, words=times or None)
        for n, text in enumerate(texts)
    ]


def batch_of(texts: list[str | None], num_words: int = 0) -> Batch:
    return collate([noise(1.5, n) for n in range(len(texts))], PLAN, RATE, LABELS, rows_of(texts, num_words))


@torch.no_grad()
def test_text_and_audio_both_count_and_neither_is_needed() -> None:
    method = made().eval()
    both, other_text = method(batch_of(["so good"])).emotion, method(batch_of(["so bad"])).emotion
    audio_only = method(batch_of([None])).emotion
    assert (both - other_text).abs().max() > 1e-4
    assert (both - audio_only).abs().max() > 1e-4
    silent = batch_of(["so good", None])
    silent = dataclasses.replace(silent, lengths=silent.lengths * 0)
    text_only, nothing = method(silent).emotion
    louder = dataclasses.replace(silent, chunks=silent.chunks * 3)
    assert torch.equal(method(louder).emotion[0], text_only)
    assert nothing.isfinite().all()
    assert (text_only - nothing).abs().max() > 1e-4


def test_training_leaves_modalities_out_as_often_as_it_is_told() -> None:
    torch.manual_seed(0)
    batch = batch_of(["so good", "so bad"] * 4)
    deaf = made(drop_audio=1.0, drop_text=0.0, dropout=0.0).train()
    assert torch.equal(deaf(batch).emotion, deaf(dataclasses.replace(batch, chunks=0 * batch.chunks)).emotion)
    blind = made(drop_text=1.0, dropout=0.0, align="fixed").train()
    assert torch.equal(blind(batch).emotion, blind(dataclasses.replace(batch, text=None)).emotion)
    with pytest.raises(ValueError, match=r"method.drop_text must be in \[0, 1\], got 2.0"):
        WordChunks.Config(drop_text=2.0)


def test_random_crops_differ_every_time_in_training_and_never_in_serving() -> None:
    torch.manual_seed(0)
    batch = batch_of(["one two three four"])
    method = made(dropout=0.0, drop_text=0.0).train()
    assert not torch.equal(method(batch).emotion, method(batch).emotion)
    method.eval()
    assert torch.equal(method(batch).emotion, method(batch).emotion)
    steady = made(dropout=0.0, drop_text=0.0, align="fixed").train()
    assert torch.equal(steady(batch).emotion, steady(batch).emotion)


def test_exact_pieces_are_the_words_and_centred_ones_lie_around_them() -> None:
    batch = batch_of(["one two three", None], num_words=3)
    batch = dataclasses.replace(batch, words=batch.words * torch.tensor([1.0, 0.0])[:, None, None])
    frames = torch.tensor([148, 148])
    starts, widths = made(align="exact")._pieces(batch, frames, torch.tensor([3, 2]))
    assert starts[0].tolist() == [0, 30, 60]
    assert widths[0].tolist() == [20, 20, 20]
    assert widths[1].tolist() == [50, 50, 0]  # no words of it are known: as if fixed
    starts, widths = made(align="centred")._pieces(batch, frames, torch.tensor([3, 2]))
    assert starts[0].tolist() == [0, 15, 45]
    assert widths[0].tolist() == [50, 50, 50]


@pytest.mark.parametrize("channel", ["text", "audio"])
def test_what_only_one_channel_tells_is_learned_from_it(channel: str) -> None:
    torch.manual_seed(0)
    texts: list[str | None] = ["fine day", "grim day"] * 8
    method = made(width=16, layers=1, dropout=0.0, drop_text=0.0, align="fixed").train()
    waves = [noise(1.0, n) if channel == "text" or n % 2 else np.cumsum(noise(1.0, n)) * 0.05 for n in range(16)]
    batch = collate([wave.astype(np.float32) for wave in waves], PLAN, RATE, LABELS, rows_of(texts if channel == "text" else [None] * 16))
    optimiser = torch.optim.AdamW(method.parameter_groups(), lr=5e-3)
    for _ in range(40):
        optimiser.zero_grad()
        method.losses({"labelled": batch})["classes"].backward()
        optimiser.step()
    held_out = dataclasses.replace(batch, chunks=batch.chunks.roll(1, 0)) if channel == "text" else batch
    right = method.eval()(held_out).emotion.argmax(-1) == batch.target.argmax(-1)
    assert right.all()


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT as the hub keeps it."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=10, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32, pad_token_id=0,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    names = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "so", "good", "bad", "day"]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({name: n for n, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_a_text_encoder_of_the_hub_travels_in_the_bundle_and_the_bundle_says_what_it_used(reader: Path, tmp_path: Path) -> None:
    run = Run(method=WordChunks.Config(text=str(reader)), labels=LABELS, chunks=PLAN)
    method = build(run)
    assert isinstance(method, WordChunks)
    assert not any(p.requires_grad for p in method.reader.parameters())
    bundle.save(tmp_path / "b", method, run)
    (tmp_path / "gone").mkdir()
    opened = bundle.load(tmp_path / "b")
    assert json.loads((tmp_path / "b" / "text" / "config.json").read_text())["model_type"] == "bert"
    wave = noise(1.2)
    with_text, without = opened.answer([wave, wave], ["so good", None])
    assert with_text.modalities == ("audio", "text")
    assert without.modalities == ("audio",)
    assert np.abs(with_text.emotion - without.emotion).max() > 1e-5
    alone = opened.predict((wave, RATE), "so good")
    np.testing.assert_allclose(alone.emotion, with_text.emotion, atol=1e-4)
    with pytest.raises(ValueError, match="2 stretches came with 1 texts"):
        opened.answer([wave, wave], ["so good"])
    trained = build(Run(method=WordChunks.Config(text=str(reader), tune_text=True), labels=LABELS, chunks=PLAN))
    assert [group.get("lr_scale") for group in trained.parameter_groups()] == [0.02, None]


def test_a_text_encoder_that_is_none_is_refused(tmp_path: Path, reader: Path) -> None:
    with pytest.raises(ValueError, match="has no config.json and no tokenizer.json; wanted a folder"):
        build(Run(method=WordChunks.Config(text=str(tmp_path)), labels=LABELS, chunks=PLAN))
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text((reader / name).read_text())
    with pytest.raises(ValueError, match="has no model.safetensors"):
        build(Run(method=WordChunks.Config(text=str(tmp_path)), labels=LABELS, chunks=PLAN))
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match="the text encoder cannot be built: .*header"):
        build(Run(method=WordChunks.Config(text=str(tmp_path)), labels=LABELS, chunks=PLAN))
    (tmp_path / "model.safetensors").write_bytes((reader / "model.safetensors").read_bytes())
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json of the text encoder cannot be read"):
        build(Run(method=WordChunks.Config(text=str(tmp_path)), labels=LABELS, chunks=PLAN))


def test_a_text_encoder_in_shards_is_fetched_with_its_index(reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = ["config.json", "tokenizer.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"]
    fetched: list[str] = []

    def snapshot(source: str, revision: str, allow_patterns: list[str]) -> str:
        fetched[:] = huggingface_hub.utils.filter_repo_objects([*there, "onnx/model.onnx", "tf_model.h5"], allow_patterns=allow_patterns)
        return str(reader)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert text.open_text("some/reader")[1] == reader
    assert fetched == there
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"lacks config\.json and tokenizer\.json and model\.safetensors: .* holds nothing"):
        text.open_text("some/reader")


class Writer:
    """Somebody who writes down the same of everything."""

    name = "writer"

    def transcribe(self, waves: list[np.ndarray], rate: int) -> list[str]:
        return ["so good"] * len(waves)


def test_a_timeline_says_that_it_rests_on_text_where_somebody_wrote_it_down(
    tmp_path: Path, speechlike: Callable[..., np.ndarray], write_wav: Callable[..., Path]
) -> None:
    run = Run(method=WordChunks.Config(), labels=LABELS, chunks=PLAN)
    opened = bundle.load(bundle.save(tmp_path / "b", build(run), run))
    talk = write_wav("talk.wav", np.concatenate([speechlike(2.0, seed=seed) for seed in range(2)]))
    turns = Given((Turn("a", 0.0, 2.0), Turn("b", 2.0, 4.0)))
    read = opened.timeline(talk, diarizer=turns, transcriber=Writer())
    heard = opened.timeline(talk, diarizer=turns)
    assert [(s.text, s.modalities) for s in read.segments] == [("so good", ("audio", "text"))] * 2
    assert [(s.text, s.modalities) for s in heard.segments] == [(None, ("audio",))] * 2
    assert read.segments[0].emotions != heard.segments[0].emotions
    assert words.num_words(as_bytes(["so good"])).tolist() == [2]


def test_what_is_written_without_spaces_does_not_leave_most_of_the_sound_out() -> None:
    batch = collate([noise(2.8)] * 3, PLAN, RATE, LABELS, rows_of(["今天天气真好我们去公园散步", "one two three four", None]))
    _, there = made().eval()._audio(batch, batch.text, batch.lengths.sum(1) > 0)
    assert there.sum(-1).tolist() == [1 + 7, 1 + 4, 1 + 7]
