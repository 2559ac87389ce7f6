"""Encoders of every family, small and with random weights: saved by these tests in the hub's layout, never fetched.

N waves, L samples, S states, T frames.
"""

from __future__ import annotations

import copy
import json
import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from moodcast.nn.pretrained import CONFIG, EXTRACTOR, FAMILIES, SpeechEncoder, open_encoder, small

RATE = 16_000
LENGTHS = [16_000, 5_000, 300, 9_999, 1]
CONV = {"conv_dim": [16, 16, 16], "conv_kernel": [10, 8, 8], "conv_stride": [5, 8, 8], "num_feat_extract_layers": 3}
BODY = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
SHALLOW = {**BODY, "num_hidden_layers": 1}
POSITIONS = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}  # how the large models of these families differ
SAMPLES = transformers.Wav2Vec2FeatureExtractor
ARCHITECTURES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "wav2vec2": lambda: (transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**BODY, **CONV, **POSITIONS)), SAMPLES()),
    "wav2vec2-large": lambda: (transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**BODY, **CONV, **POSITIONS, **LARGE)), SAMPLES()),
    "hubert": lambda: (transformers.HubertModel(transformers.HubertConfig(**BODY, **CONV, **POSITIONS)), SAMPLES(do_normalize=False)),
    "hubert-large": lambda: (transformers.HubertModel(transformers.HubertConfig(**BODY, **CONV, **POSITIONS, **LARGE)), SAMPLES()),
    "distilhubert": lambda: (
        transformers.HubertModel(transformers.HubertConfig(**SHALLOW, **CONV, **POSITIONS, feat_proj_layer_norm=False)),
        SAMPLES(),
    ),
    "wavlm": lambda: (transformers.WavLMModel(transformers.WavLMConfig(**BODY, **CONV, **POSITIONS)), SAMPLES(do_normalize=False)),
    "wavlm-large": lambda: (transformers.WavLMModel(transformers.WavLMConfig(**BODY, **CONV, **POSITIONS, **LARGE)), SAMPLES()),
    "unispeech-sat": lambda: (transformers.UniSpeechSatModel(transformers.UniSpeechSatConfig(**BODY, **CONV, **POSITIONS)), SAMPLES()),
    "wav2vec2-bert": lambda: (
        transformers.Wav2Vec2BertModel(transformers.Wav2Vec2BertConfig(**BODY, conv_depthwise_kernel_size=7, add_adapter=True)),
        transformers.SeamlessM4TFeatureExtractor(),
    ),
    "whisper": lambda: (
        transformers.WhisperModel(
            transformers.WhisperConfig(
                d_model=16, encoder_layers=3, encoder_attention_heads=2, encoder_ffn_dim=24, decoder_layers=1, decoder_attention_heads=2,
                decoder_ffn_dim=16, vocab_size=20, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
            )
        ),
        transformers.WhisperFeatureExtractor(),
    ),
}  # fmt: skip
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each architecture as the hub keeps it: config, feature extractor, safetensors."""
    found = {}
    for name, make in ARCHITECTURES.items():
        torch.manual_seed(0)
        model, extractor = make()
        found[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(found[name])
        extractor.save_pretrained(found[name])
    return found


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would leave this machine fails."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def opened(folder: Path) -> SpeechEncoder:
    files, weights = open_encoder(str(folder))
    return SpeechEncoder(files, RATE, weights)


def waves() -> tuple[torch.Tensor, torch.Tensor]:
    sounds = 0.1 * torch.randn(len(LENGTHS), max(LENGTHS), generator=torch.Generator().manual_seed(0))
    return sounds, torch.tensor(LENGTHS)  # what lies behind a length is noise as well


@every_architecture
def test_states_are_the_same_alone_and_in_a_batch_whatever_lies_behind_the_end(name: str, saved: dict[str, Path]):
    encoder, (sounds, lengths) = opened(saved[name]), waves()
    states, mask = encoder(sounds, lengths)
    assert states.shape[1] == encoder.num_layers + 1
    assert states.shape[3] == encoder.width
    assert mask.sum(1).tolist() == encoder.num_frames(lengths).tolist()
    assert (states.masked_fill(mask[:, None, :, None], 0.0) == 0).all()
    for row, length in enumerate(LENGTHS):
        alone, _ = encoder(sounds[row : row + 1, :length], lengths[row : row + 1])
        count = int(mask[row].sum())
        assert alone.shape[2] == count >= 1
        torch.testing.assert_close(alone[0], states[row, :, :count], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "whisper"])
def test_the_states_of_one_wave_are_those_of_the_library_with_its_own_processor(name: str, saved: dict[str, Path]):
    encoder, wave = opened(saved[name]), waves()[0][0]
    processor = transformers.AutoFeatureExtractor.from_pretrained(saved[name])
    model = transformers.AutoModel.from_pretrained(saved[name]).eval()
    model.adapter = None
    with torch.no_grad():
        given = processor(wave.numpy(), sampling_rate=RATE, return_tensors="pt")
        wanted = model(**given, output_hidden_states=True)
        found, _ = encoder(wave[None], torch.tensor([len(wave)]))
    torch.testing.assert_close(found[0, -1], wanted.last_hidden_state[0], atol=2e-3, rtol=0)
    torch.testing.assert_close(found[0, 1], wanted.hidden_states[1][0], atol=2e-3, rtol=0)


def test_whisper_on_a_full_window_is_the_librarys(saved: dict[str, Path]):
    """30 s leave nothing masked, so that our way through the layers must give what theirs gives."""
    encoder = opened(saved["whisper"])
    wave = 0.1 * torch.randn(30 * RATE, generator=torch.Generator().manual_seed(0))
    processor, model = transformers.WhisperFeatureExtractor(), transformers.WhisperModel.from_pretrained(saved["whisper"]).eval()
    with torch.no_grad():
        features = processor(wave.numpy(), sampling_rate=RATE, return_tensors="pt").input_features
        wanted = model.encoder(features).last_hidden_state
        found, mask = encoder(wave[None], torch.tensor([len(wave)]))
    assert mask.all()
    torch.testing.assert_close(found[0, -1, :-1], wanted[0, :-1], atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="at most 30 s"):
        encoder(torch.zeros(1, 31 * RATE), torch.tensor([31 * RATE]))


@every_architecture
@pytest.mark.parametrize("tuned", ["all", "front", "one layer", "lora"])
def test_all_that_calls_itself_trainable_gets_a_gradient(name: str, tuned: str, saved: dict[str, Path]):
    """Two workers would wait for each other otherwise."""
    encoder, (sounds, lengths) = opened(saved[name]), waves()
    if tuned == "lora":
        encoder.adapt(rank=2, alpha=4, dropout=0.0)
        with torch.no_grad():
            for p in encoder.parameters():
                p += 0.01 * torch.randn_like(p) * p.requires_grad  # the second matrix starts at zero and hides the first
    else:
        encoder.thaw(1 if tuned == "one layer" else None, front=tuned == "front")
    encoder.train()
    states, _ = encoder(sounds, lengths)
    states.backward(torch.randn(states.shape, generator=torch.Generator().manual_seed(1)))
    trained = {path: p.grad for path, p in encoder.named_parameters() if p.requires_grad}
    assert trained
    assert not [path for path, gradient in trained.items() if gradient is None or not (gradient != 0).any()]
    below = [path for path in trained if "layers.0." in path or "projection" in path]
    assert bool(below) == (tuned != "one layer" or encoder.num_layers == 1)
    if tuned == "lora":
        assert all("lora_" in path for path in trained)
        assert len(trained) >= 4 * encoder.num_layers


def test_layers_thaw_from_the_top(saved: dict[str, Path]):
    encoder = opened(saved["wavlm"])
    assert not any(p.requires_grad for p in encoder.parameters())
    for count in range(4):
        encoder.thaw(count)
        thawed = [any(p.requires_grad for p in layer.parameters()) for layer in encoder.layers]
        assert thawed == [False] * (3 - count) + [True] * count
        assert encoder.model.feature_projection.projection.weight.requires_grad == (count == 3)
        assert not encoder.model.feature_extractor.conv_layers[0].conv.weight.requires_grad


@every_architecture
def test_its_files_alone_rebuild_the_architecture(name: str, saved: dict[str, Path]):
    encoder, (sounds, lengths) = opened(saved[name]), waves()
    again = SpeechEncoder(json.loads(json.dumps(encoder.files)), RATE)
    again.load_state_dict(encoder.state_dict())
    again.eval()
    torch.testing.assert_close(again(sounds, lengths)[0], encoder(sounds, lengths)[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_small_random_control(family: str):
    files, weights = open_encoder(f"random/{family}")
    assert weights is None
    states, _ = SpeechEncoder(files, RATE)(*waves())
    assert states.isfinite().all()


# ------------------------------------------------------------------------------------------------------ refusals


def copied(folder: Path, into: Path) -> Path:
    into.mkdir()
    for path in folder.iterdir():
        (into / path.name).write_bytes(path.read_bytes())
    return into


def test_weights_that_are_a_pickle_are_refused_before_they_are_opened(saved: dict[str, Path], tmp_path: Path):
    folder = copied(saved["wavlm"], tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save(transformers.AutoModel.from_pretrained(saved["wavlm"]).state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no model\.safetensors.*opens no pickle.*save_pretrained\(\.\.\.\) converts it$") as told:
        open_encoder(str(folder))
    assert "revision" not in str(told.value)  # which a folder has not


def test_of_a_hub_s_repository_only_what_is_read_is_fetched(saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Repositories hold the same weights in other formats, too, and adapters for a thousand languages."""
    import huggingface_hub

    repository = copied(saved["wavlm"], tmp_path / "repository")
    shards = ["model-00001-of-00002.safetensors", "model.safetensors.index.json"]
    read = sorted({CONFIG, EXTRACTOR, "processor_config.json", "model.safetensors", *shards})
    others = ["model.fp32-00001-of-00002.safetensors", "adapter.deu.safetensors", "pytorch_model.bin", "vocab.json"]
    fetched: list[str] = []

    def snapshot(source: str, revision: str, allow_patterns: list[str]) -> str:
        fetched[:] = huggingface_hub.utils.filter_repo_objects([*read, *others], allow_patterns=allow_patterns)
        return str(repository)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda source, revision: others)
    assert open_encoder("some/where")[1] == repository
    assert sorted(fetched) == read
    (repository / "model.safetensors").rename(repository / "adapter.deu.safetensors")
    with pytest.raises(ValueError, match=r"some/where \(revision main\) has no model\.safetensors.*try method\.revision=refs/pr/1"):
        open_encoder("some/where")


@pytest.mark.parametrize(("held", "missing"), [([CONFIG], "model.safetensors"), ([], "config.json and model.safetensors")])
def test_a_copy_of_a_repository_that_was_fetched_by_half_says_what_it_lacks_where_the_hub_cannot_be_asked(
    held: list[str], missing: str, saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Offline the hub's client hands out what it has."""
    import huggingface_hub

    cache, commit = tmp_path / "models--some--where", "a" * 40
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    (folder := cache / "snapshots" / commit).mkdir(parents=True)
    for name in held:
        (folder / name).write_bytes((saved["wavlm"] / name).read_bytes())
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=f"lacks {missing}: {folder} holds {held[0] if held else 'nothing'}, .*Fetch it where") as told:
        open_encoder("some/where")
    assert "pickle" not in str(told.value)


def test_code_and_kernels_that_a_config_names_are_ignored(saved: dict[str, Path], tmp_path: Path):
    folder = copied(saved["wav2vec2"], tmp_path / "coded")
    (folder / "evil.py").write_text("raise SystemExit('this ran')\n")
    config = json.loads((folder / CONFIG).read_text())
    config |= {"auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}, "_attn_implementation": "somebody/kernel"}
    config |= {"attn_implementation": "somebody/kernel", "quantization_config": {"quant_method": "gptq"}, "dtype": "float16"}
    (folder / CONFIG).write_text(json.dumps(config))
    states, _ = opened(folder)(*waves())
    torch.testing.assert_close(states, opened(saved["wav2vec2"])(*waves())[0])


def test_what_is_no_encoder_is_refused_in_words(saved: dict[str, Path], tmp_path: Path):
    with pytest.raises(ValueError, match=r"'some/where' \(revision main\) is neither a folder nor to be had from the hub"):
        open_encoder("some/where")
    with pytest.raises(ValueError, match=r"no config\.json"):
        open_encoder(str(tmp_path))
    with pytest.raises(ValueError, match="no random encoder random/bert"):
        open_encoder("random/bert")
    with pytest.raises(ValueError, match=r"is a 'bert'; wanted one of wav2vec2, hubert"):
        SpeechEncoder({CONFIG: '{"model_type": "bert"}'}, RATE)
    with pytest.raises(ValueError, match=r"hears 16000 Hz and the run reads 8000 Hz; set audio\.rate=16000"):
        SpeechEncoder(small("wavlm"), 8_000)
    cut = copied(saved["hubert"], tmp_path / "cut")
    from safetensors.torch import load_file, save_file

    weights = load_file(cut / "model.safetensors")
    save_file({name: value for name, value in weights.items() if "layers.1" not in name}, cut / "model.safetensors")
    with pytest.raises(ValueError, match=r"lacks \d+ weights of its encoder, the first is encoder\.layers\.1"):
        opened(cut)


def test_samples_are_standardised_only_where_the_extractor_says_so(saved: dict[str, Path]):
    files = open_encoder(str(saved["wav2vec2"]))[0]
    wave, length = waves()[0][:1], torch.tensor([16_000])
    for wanted in (True, False):
        told = {**files, EXTRACTOR: json.dumps({**json.loads(files[EXTRACTOR]), "do_normalize": wanted})}
        encoder = SpeechEncoder(told, RATE)
        inputs, _, _ = encoder._inputs(wave, length)
        assert np.isclose(float(inputs.std()), 1.0 if wanted else float(wave.std()), atol=0.01)


def test_an_extractor_that_lies_in_the_file_of_a_processor_is_heeded(saved: dict[str, Path], tmp_path: Path):
    """Where transformers 5 puts it for an encoder that comes with a tokenizer; it goes before the other file."""
    folder = copied(saved["wavlm"], tmp_path / "processed")
    (folder / "vocab.json").write_text(json.dumps({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "a": 5}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    transformers.Wav2Vec2Processor(SAMPLES(do_normalize=False), tokenizer).save_pretrained(folder)
    assert not json.loads((folder / "processor_config.json").read_text())["feature_extractor"]["do_normalize"]
    (folder / EXTRACTOR).write_text(json.dumps({"do_normalize": True}))
    assert not opened(folder).standardise
    (folder / EXTRACTOR).unlink()
    encoder = opened(folder)
    assert not encoder.standardise
    assert not SpeechEncoder(encoder.files, RATE).standardise  # as a bundle has it
    (folder / "processor_config.json").write_text('{"processor_class": "Wav2Vec2Processor"}')  # as others wrote it: names, no settings
    (folder / EXTRACTOR).write_text(json.dumps({"do_normalize": False}))
    assert not opened(folder).standardise


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (CONFIG, b'{"model_type": ', r"config\.json of the encoder is not JSON \(.*\); take a fresh copy"),
        (CONFIG, b'{"model_type": "\xff"}', r"config\.json cannot be read \(.*\); take a fresh copy"),
        (EXTRACTOR, b"<html>", r"preprocessor_config\.json of the encoder is not JSON"),
        ("model.safetensors", b"", r"encoder in .* cannot be opened: .*; take a whole copy"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", r"git lfs pull"),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(name: str, content: bytes, said: str, saved: dict[str, Path], tmp_path: Path):
    folder = copied(saved["hubert"], tmp_path / "damaged")
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        opened(folder)


@pytest.mark.parametrize("name", ["hubert", "whisper"])
def test_weights_of_another_size_than_the_config_says_are_named(name: str, saved: dict[str, Path], tmp_path: Path):
    folder = copied(saved[name], tmp_path / "other")
    settings = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(settings | ({"num_mel_bins": 128} if name == "whisper" else {"intermediate_size": 32})))
    shapes = r"conv1\.weight has the shape \(16, 80, 3\), .* \(16, 128, 3\)" if name == "whisper" else r"has the shape .*24.* says .*32"
    with pytest.raises(ValueError, match=shapes):
        opened(folder)


def test_a_weight_that_is_no_number_is_named_before_anything_is_trained(saved: dict[str, Path], tmp_path: Path):
    from safetensors.torch import load_file, save_file

    folder = copied(saved["hubert"], tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    name = sorted(name for name in weights if name.endswith("k_proj.weight"))[0]
    weights[name][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=rf"broken: {re.escape(name)} holds values that are infinite or no numbers; take a fresh copy"):
        opened(folder)


# --------------------------------------------------------------------------------------- how checkpoints come along


def test_a_checkpoint_with_a_head_in_shards_or_with_older_names_is_the_same_encoder(tmp_path: Path):
    from safetensors.torch import load_file, save_file

    torch.manual_seed(3)
    with_head = transformers.Wav2Vec2ForSequenceClassification(transformers.Wav2Vec2Config(**BODY, **CONV, **POSITIONS))
    wanted = None
    for name in ("head", "shards", "older"):
        folder = tmp_path / name
        with_head.save_pretrained(folder, max_shard_size="20KB" if name == "shards" else "5GB")
        SAMPLES().save_pretrained(folder)
        if name == "shards":
            assert len(list(folder.glob("*.safetensors"))) > 1
        if name == "older":
            weights = load_file(folder / "model.safetensors")
            old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
            for new, before in old.items():
                weights = {path.replace(new, before): value for path, value in weights.items()}
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        states, _ = opened(folder)(*waves())
        wanted = states if wanted is None else wanted
        torch.testing.assert_close(states, wanted)
    model = with_head.wav2vec2.eval()
    torch.testing.assert_close(
        opened(tmp_path / "head").model.encoder.layers[2].final_layer_norm.weight, model.encoder.layers[2].final_layer_norm.weight
    )
    assert not torch.equal(wanted, SpeechEncoder(open_encoder(str(tmp_path / "head"))[0], RATE)(*waves())[0])


def test_half_precision_checkpoints_are_opened_in_full(saved: dict[str, Path], tmp_path: Path):
    transformers.AutoModel.from_pretrained(saved["wavlm"]).half().save_pretrained(tmp_path)
    encoder = opened(tmp_path)
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    torch.testing.assert_close(
        encoder(*waves())[0], SpeechEncoder(open_encoder(str(tmp_path))[0], RATE, saved["wavlm"])(*waves())[0], atol=0.05, rtol=0
    )


@pytest.mark.parametrize("name", ["wav2vec2", "wavlm", "whisper"])
def test_threads_that_ask_at_once_get_what_they_would_get_alone(name: str, saved: dict[str, Path]):
    """A server answers several requests in one process."""
    encoder, (sounds, lengths) = opened(saved[name]), waves()
    asked = [slice(0, 1), slice(1, 3), slice(3, 5), slice(0, 5)] * 4
    with torch.no_grad():
        wanted = [encoder(sounds[at], lengths[at])[0] for at in asked]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda at: ask(encoder, sounds[at], lengths[at]), asked))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def ask(encoder: SpeechEncoder, sounds: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():  # which every thread says for itself
        return encoder(sounds, lengths)[0]


@every_architecture
def test_a_copy_answers_as_the_original(name: str, saved: dict[str, Path]):
    """Bundles of a method on a GPU are saved from a copy."""
    encoder, (sounds, lengths) = opened(saved[name]), waves()
    wanted = encoder(sounds, lengths)[0]
    torch.testing.assert_close(copy.deepcopy(encoder)(sounds, lengths)[0], wanted)


@pytest.mark.parametrize(
    "wrong", [{"num_hidden_layers": "2"}, {"hidden_act": "os.system"}, {"conv_dim": [32, 32]}, {"num_attention_heads": 5}]
)
def test_settings_that_describe_no_network_are_one_sentence(wrong: dict[str, Any], saved: dict[str, Path], tmp_path: Path) -> None:
    files = small("wav2vec2")
    with pytest.raises(ValueError, match="of the encoder"):
        SpeechEncoder({**files, CONFIG: json.dumps({**json.loads(files[CONFIG]), **wrong})}, 16_000)
    folder = copied(saved["wav2vec2"], tmp_path / "wrong")
    (folder / CONFIG).write_text(json.dumps({**json.loads((folder / CONFIG).read_text()), **wrong}))
    with pytest.raises(ValueError, match="of the encoder|the encoder in .* cannot be opened"):
        opened(folder)
    with pytest.raises(ValueError, match="holds no settings"):
        SpeechEncoder({**files, EXTRACTOR: "[]"}, 16_000)


def test_the_form_of_an_answer_is_not_the_config_s_to_choose() -> None:
    files = small("wav2vec2")
    odd = {**json.loads(files[CONFIG]), "return_dict": False, "use_return_dict": False}
    states, _ = SpeechEncoder({**files, CONFIG: json.dumps(odd)}, 16_000)(torch.zeros(1, 8_000), torch.tensor([8_000]))
    assert states.shape[1] == 3
