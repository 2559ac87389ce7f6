"""What encoders of every family say: saved by these tests in the hub's layout, never fetched. N waves, L samples, S states, T frames."""

from __future__ import annotations

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import transformers

from moodcast.nn.pretrained import CONFIG, FAMILIES, SpeechEncoder, open_encoder, small
from tests.nn.encoders import ARCHITECTURES, BODY, CONV, LENGTHS, POSITIONS, RATE, SAMPLES, every_architecture, opened, waves


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


def test_the_form_of_an_answer_is_not_the_config_s_to_choose() -> None:
    files = small("wav2vec2")
    odd = {**json.loads(files[CONFIG]), "return_dict": False, "use_return_dict": False}
    states, _ = SpeechEncoder({**files, CONFIG: json.dumps(odd)}, 16_000)(torch.zeros(1, 8_000), torch.tensor([8_000]))
    assert states.shape[1] == 3
