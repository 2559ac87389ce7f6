"""Text encoders of the Hugging Face hub as one module: texts in, the last hidden states of their tokens out, the same alone and in a batch.

Any encoder that the transformers library builds from plain settings (BERT, RoBERTa, XLM-RoBERTa, DeBERTa, ModernBERT, ...): a folder in
the hub's layout or a hub id. Weights are read from safetensors alone, the tokenizer from its tokenizer.json, which is data; code that a
repository brings is never run. `files` are all that a bundle must carry to build it again.

Shapes: B texts, N tokens, D width.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from moodcast.extras import library
from moodcast.nn.pretrained import CONFIG, INDEX, NOT_KEPT, WEIGHTS, _object, has_weights, refuse_broken, refuse_part

TOKENIZER = "tokenizer.json"
FOLDER = "text/"  # where the files travel in a bundle
MAX_TOKENS = 256


class TextEncoder(nn.Module):
    """`forward(texts)` gives states [B, N, D] and a mask [B, N]; N >= 1, and an empty text has what the tokenizer puts around any.

    files: "config.json" and "tokenizer.json" as text. weights: a folder with safetensors, or None for random ones, which a bundle's then
    replace. Raises ValueError where either is missing or describes no encoder.
    """

    def __init__(self, files: Mapping[str, str], weights: Path | None = None) -> None:
        super().__init__()
        if missing := {CONFIG, TOKENIZER} - files.keys():
            raise ValueError(f"the text encoder has no {', '.join(sorted(missing))}; take a fresh copy")
        self.files = {name: files[name] for name in (CONFIG, TOKENIZER)}
        self.model = _model(_object(files[CONFIG], CONFIG), weights)
        try:
            self.tokenizer = _library("tokenizers").Tokenizer.from_str(files[TOKENIZER])
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"the {TOKENIZER} of the text encoder cannot be read ({error}); take a fresh copy") from error
        self.tokenizer.no_padding()
        config = self.model.config
        self.width: int = config.hidden_size
        self.tokenizer.enable_truncation(min(MAX_TOKENS, getattr(config, "max_position_embeddings", MAX_TOKENS) - 2))
        self.padding = int(config.pad_token_id or 0)

    def forward(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """See the class."""
        tokens = [found.ids or [self.padding] for found in self.tokenizer.encode_batch(list(texts))]
        device = next(self.model.parameters()).device
        ids = torch.full((len(tokens), max(map(len, tokens))), self.padding, device=device)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        for row, seen, found in zip(ids, mask, tokens, strict=True):
            row[: len(found)] = torch.tensor(found, device=device)
            seen[: len(found)] = True
        trained = any(p.requires_grad for p in self.model.parameters())
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            states = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return states * mask[..., None], mask


def text_encoder(source: str, revision: str, carried: Mapping[str, str] | None) -> TextEncoder:
    """The text encoder of a method: opened by its name, or built of the files that a bundle carries, whose weights come later."""
    if carried is not None:
        return TextEncoder({name.removeprefix(FOLDER): text for name, text in carried.items() if name.startswith(FOLDER)})
    return TextEncoder(*open_text(source, revision))


def open_text(source: str, revision: str = "main") -> tuple[dict[str, str], Path]:
    """The describing files of a text encoder and the folder of its weights. Raises ValueError where it is not to be had."""
    place = Path(os.path.expanduser(source))
    folder = place if place.is_dir() else _fetched(source, revision)
    if missing := [name for name in (CONFIG, TOKENIZER) if not (folder / name).is_file()]:
        raise ValueError(
            f"{source} has no {' and no '.join(missing)}; wanted a folder in the Hugging Face layout, or a hub id, with a tokenizer.json "
            "(transformers.AutoTokenizer.from_pretrained(...).save_pretrained(folder) writes one)"
        )
    if not has_weights(folder):
        raise ValueError(
            f"{source} (revision {revision}) has no model.safetensors, and moodcast opens no pickle (.bin, .pt), which may run code"
        )
    return {name: (folder / name).read_text(encoding="utf-8") for name in (CONFIG, TOKENIZER)}, folder


def _fetched(source: str, revision: str) -> Path:
    hub = _library("huggingface_hub")
    try:
        folder = Path(hub.snapshot_download(source, revision=revision, allow_patterns=[CONFIG, TOKENIZER, *WEIGHTS, INDEX]))
    except (ValueError, OSError) as error:  # what the hub's client raises is one of these
        raise ValueError(
            f"the text encoder {source!r} (revision {revision}) is neither a folder nor to be had from the hub: "
            f"{str(error).strip().splitlines()[0].rstrip('.')}"
        ) from error
    refuse_part(source, revision, folder, (CONFIG, TOKENIZER))
    return folder


def _library(name: str) -> Any:
    return library(name, "encoders", "pre-trained text encoders need the library")


def _model(found: Mapping[str, Any], weights: Path | None) -> Any:
    """The network, float32, frozen. Raises ValueError where the settings describe none, or weights are missing."""
    hf = _library("transformers")
    settings = {name: value for name, value in found.items() if not name.startswith("_") and name not in NOT_KEPT}
    if settings.get("is_encoder_decoder"):
        raise ValueError(f"a {settings.get('model_type')} reads and writes; wanted an encoder (BERT, RoBERTa, XLM-RoBERTa, DeBERTa, ...)")
    try:
        config = hf.AutoConfig.for_model(**settings)
        if weights is None:
            model = hf.AutoModel.from_config(config)
        else:
            model, told = hf.AutoModel.from_pretrained(
                weights,
                config=config,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
            if missing := sorted(name for name in told["missing_keys"] if "pooler" not in name):
                raise ValueError(f"{weights} lacks {len(missing)} weights, the first is {missing[0]}; take a whole copy")
            refuse_broken(model, weights)
    except (TypeError, KeyError, OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"the text encoder cannot be built: {' '.join(str(error).split())[:200]}") from error
    return model.requires_grad_(False).eval()
