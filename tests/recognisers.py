"""Speech recognisers of both kinds in local folders: tiny, with random weights, in the layout of the hub's."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPECIAL = (
    *("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>"),
    *("<|startoflm|>", "<|startofprev|>", "<|nocaptions|>", "<|notimestamps|>"),
)


def make_ctc(folder: Path) -> Path:
    """wav2vec 2.0 with a letter a frame."""
    folder.mkdir()
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS.upper()])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    conv = {"conv_dim": [16, 16, 16], "conv_kernel": [10, 8, 8], "conv_stride": [5, 8, 8], "num_feat_extract_layers": 3}
    body = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    positions = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    torch.manual_seed(0)
    model = transformers.Wav2Vec2ForCTC(
        transformers.Wav2Vec2Config(**conv, **body, **positions, vocab_size=len(vocabulary), pad_token_id=0)
    )
    model.lm_head.weight.data *= 40
    model.save_pretrained(folder)
    return folder


def make_whisper(folder: Path) -> Path:
    """Whisper with two languages and letters for words."""
    folder.mkdir()
    tokens = {token: i for i, token in enumerate([*LETTERS, "Ġ", *SPECIAL])}
    (folder / "vocab.json").write_text(json.dumps(tokens))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.WhisperTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), extra_special_tokens=list(SPECIAL))
    end, start = tokens["<|endoftext|>"], tokens["<|startoftranscript|>"]
    ids = {"pad_token_id": end, "bos_token_id": end, "eos_token_id": end, "decoder_start_token_id": start}
    encoder = {"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16}
    torch.manual_seed(1)
    config = transformers.WhisperConfig(vocab_size=len(tokens), d_model=16, **encoder, **decoder, max_target_positions=20, **ids)
    model = transformers.WhisperForConditionalGeneration(config)
    model.model.decoder.embed_tokens.weight.data *= 30
    model.save_pretrained(folder)
    settings = {
        **ids,
        "is_multilingual": True,
        "lang_to_id": {"<|en|>": tokens["<|en|>"], "<|de|>": tokens["<|de|>"]},
        "task_to_id": {"transcribe": tokens["<|transcribe|>"], "translate": tokens["<|translate|>"]},
        "no_timestamps_token_id": tokens["<|notimestamps|>"],
        "max_length": 20,
        "suppress_tokens": list(range(len(LETTERS) + 1, len(tokens))),
    }
    (folder / "generation_config.json").write_text(json.dumps(settings))
    tokenizer.save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return folder
