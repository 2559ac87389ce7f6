"""Encoders of every family, small and with random weights. N waves, L samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from moodcast.nn.pretrained import SpeechEncoder, open_encoder

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


def opened(folder: Path) -> SpeechEncoder:
    files, weights = open_encoder(str(folder))
    return SpeechEncoder(files, RATE, weights)


def waves() -> tuple[torch.Tensor, torch.Tensor]:
    sounds = 0.1 * torch.randn(len(LENGTHS), max(LENGTHS), generator=torch.Generator().manual_seed(0))
    return sounds, torch.tensor(LENGTHS)  # what lies behind a length is noise as well


def copied(folder: Path, into: Path) -> Path:
    into.mkdir()
    for path in folder.iterdir():
        (into / path.name).write_bytes(path.read_bytes())
    return into
