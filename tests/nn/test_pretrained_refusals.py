"""What is refused of an encoder's folder, in which words, and what of its files is heeded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from moodcast.nn.pretrained import CONFIG, EXTRACTOR, SpeechEncoder, open_encoder, small
from tests.nn.encoders import RATE, SAMPLES, copied, opened, waves


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
