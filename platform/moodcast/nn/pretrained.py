"""Speech encoders of the Hugging Face hub as one module: waves in, the hidden states of all layers out, the same alone and in a batch.

Families: wav2vec 2.0, HuBERT (DistilHuBERT too), WavLM, UniSpeech-SAT (samples in), Wav2Vec2-BERT (filterbank in) and the
encoder of Whisper (log-mel in, attention over real frames only, where Whisper itself also looks at the silence up to 30 s).

An encoder is a folder in the hub's layout, or a hub id, which is fetched by the hub's own client and only because it was named. Weights
are read from safetensors alone, code that a repository brings is never run, and of its config only plain settings are kept. "random/wavlm"
(any family) names a small encoder with random weights: the control that says what pre-training is worth, and what tests can have.

Shapes: N waves, L samples, S states (embedding and layers), T frames, D width.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from moodcast.extras import library
from moodcast.nn.frontends import HEARD, KaldiFilterbank, MaskedGroupNorm, WhisperLogMel, real, standardised
from moodcast.nn.precision import encoding

CONFIG, EXTRACTOR = "config.json", "preprocessor_config.json"
PROCESSOR = "processor_config.json"  # where transformers 5 writes the extractor, under this name, if there is a tokenizer beside it
NESTED = "feature_extractor"
# One file or shards. What has another name is an adapter, or the same weights in another format: gigabytes that nobody reads.
WEIGHTS = ("model.safetensors", "model-*.safetensors")
INDEX = "model.safetensors.index.json"
SAMPLES = ("wav2vec2", "hubert", "wavlm", "unispeech-sat")
FAMILIES = (*SAMPLES, "wav2vec2-bert", "whisper")
RANDOM = "random/"
# Keys of a config that name code, kernels, number formats or the form of answers instead of a network; none of them is passed on.
NOT_KEPT = (
    *("auto_map", "attn_implementation", "experts_implementation", "quantization_config", "torch_dtype", "dtype", "custom_pipelines"),
    *("return_dict", "use_return_dict", "output_attentions", "output_hidden_states"),
)
# Attention of WavLM reads the matrices of its projections past their modules, where an adapter would be skipped without a word.
ADAPTED = {"wavlm": ("intermediate_dense", "output_dense"), "wav2vec2-bert": ("linear_q", "linear_v")}
_CONV = {"conv_dim": [32, 32, 32], "conv_kernel": [10, 8, 8], "conv_stride": [5, 8, 8], "num_feat_extract_layers": 3}
_SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_POSITIONS = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}


class SpeechEncoder(nn.Module):
    """`forward(waves [N, L], lengths [N])` gives states [N, S, T, D] and a mask [N, T]; states of frames that are not real are zero.

    files: "config.json" and "preprocessor_config.json" as text, which is all that rebuilds the architecture. weights: a folder with
    safetensors, or None for random ones. Raises ValueError for a family that is not known, or weights that are missing.
    """

    def __init__(self, files: Mapping[str, str], rate: int, weights: Path | None = None) -> None:
        super().__init__()
        if CONFIG not in files:
            raise ValueError(f"the {CONFIG} of the encoder is missing; take a fresh copy of the bundle")
        self.files = {name: files[name] for name in (CONFIG, EXTRACTOR) if name in files}
        settings, self.extractor = _object(files[CONFIG], CONFIG), _object(files.get(EXTRACTOR, "{}"), EXTRACTOR)
        self.family = str(settings.get("model_type"))
        if self.family not in FAMILIES:
            raise ValueError(f"the encoder is a {self.family!r}; wanted one of {', '.join(FAMILIES)}")
        if (wanted := self.extractor.get("sampling_rate", 16_000)) != rate:
            raise ValueError(f"the encoder hears {wanted} Hz and the run reads {rate} Hz; set audio.rate={wanted}")
        self.model = _model(self.family, _plain(settings), weights)
        config = self.model.config
        self.width: int = config.d_model if self.family == "whisper" else config.hidden_size
        self.num_layers: int = len(self.layers)
        if self.family in SAMPLES:
            self.standardise = bool(self.extractor.get("do_normalize", True))
            self.strides = list(zip(config.conv_kernel, config.conv_stride, strict=True))
            self.least = 1
            for kernel, stride in reversed(self.strides):  # samples that the first frame sees
                self.least = (self.least - 1) * stride + kernel
            first = self.model.feature_extractor.conv_layers[0]
            if isinstance(getattr(first, "layer_norm", None), nn.GroupNorm):
                first.layer_norm = MaskedGroupNorm(first.layer_norm)
        else:
            self.frontend = _frontend(self.family, config)
        self.freeze()

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, bottom to top."""
        found: nn.ModuleList = self.model.layers if self.family == "whisper" else self.model.encoder.layers
        return found

    @property
    def max_s(self) -> float:
        """The longest wave that the encoder takes, seconds."""
        return 0.02 * self.model.config.max_source_positions if self.family == "whisper" else float("inf")

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Real frames of `lengths` real samples: 0 for none, else at least 1."""
        count: Tensor
        if self.family == "whisper":
            count = (self.frontend.num_frames(lengths) + 1) // 2
            return count
        if self.family == "wav2vec2-bert":
            count = self.frontend.num_frames(lengths)
            return count
        count = lengths.clamp_min(self.least)
        for kernel, stride in self.strides:
            count = (count - kernel) // stride + 1
        return torch.where(lengths > 0, count, 0)

    @encoding
    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See the class. Every wave has at least one real sample."""
        waves = waves * real(lengths, waves.shape[-1])
        trained = any(p.requires_grad for p in self.model.parameters())
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            if self.family == "whisper":
                states = self._whisper(waves, lengths)
            else:
                inputs, mask, count = self._inputs(waves, lengths)
                before = HEARD.set(count)
                try:
                    answer = self.model(inputs, attention_mask=mask.long(), output_hidden_states=True)
                finally:
                    HEARD.reset(before)
                states = [*answer.hidden_states[:-1], answer.last_hidden_state]
        found = torch.stack(states, dim=1)
        mask = real(self.num_frames(lengths), found.shape[2])
        return found * mask[:, None, :, None], mask

    def freeze(self) -> None:
        """Nothing is trained, and dropout is off."""
        self.model.requires_grad_(False)
        self.eval()

    def thaw(self, layers: int | None = None, front: bool = False) -> None:
        """Train the top `layers` of the transformer (None: all, with what lies below them); `front`: also the convolutions of the input.

        What training never reaches (a mask embedding, sinusoids) stays as it is.
        """
        self.model.requires_grad_(False)
        count = self.num_layers if layers is None else max(0, layers)
        for layer in self.layers[max(0, self.num_layers - count) :]:
            layer.requires_grad_(True)
        normed_last = self.family == "whisper" or getattr(self.model.config, "do_stable_layer_norm", False)
        top = [name for name in (("layer_norm",) if self.family == "whisper" else ("encoder.layer_norm",)) if normed_last]
        below = ("feature_projection", "encoder.pos_conv_embed", *(() if normed_last else ("encoder.layer_norm",)))
        convolutions = ("feature_extractor", "conv1", "conv2") if front else ()
        for name in (*(top if count else ()), *(below if count >= self.num_layers else ()), *convolutions):
            for part in (module for path, module in self.model.named_modules() if path == name):
                part.requires_grad_(True)

    def adapt(self, rank: int, alpha: float, dropout: float) -> None:
        """Low-rank adapters (LoRA, Hu et al. 2021) in every transformer layer, by peft: they train, all else is frozen."""
        peft = _library("peft")
        names = ADAPTED.get(self.family, ("q_proj", "v_proj"))
        config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=list(names))
        peft.inject_adapter_in_model(config, self.model)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_("lora_" in name)

    def recompute(self) -> None:
        """In training, what the layers compute is not kept for the gradients but computed again: less memory, about a third more time."""
        new = getattr(self.model, "activation_checkpointing_enable", None)  # the other name goes with transformers 6
        if new is not None:
            new(activation_checkpointing_kwargs={"use_reentrant": False})
        else:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def _inputs(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the model is fed, the mask that goes with it, and how many of the first convolution's frames are real."""
        if self.family == "wav2vec2-bert":
            rows, count = self.frontend(waves, lengths)
            return rows, real(count, rows.shape[1]), count
        if self.standardise:
            waves = standardised(waves, lengths)
        waves = nn.functional.pad(waves, (0, max(0, self.least - waves.shape[-1])))
        heard = lengths.clamp_min(self.least)
        kernel, stride = self.strides[0]
        return waves, real(heard, waves.shape[-1]), (heard - kernel) // stride + 1

    def _whisper(self, waves: Tensor, lengths: Tensor) -> list[Tensor]:
        """The layers of Whisper's encoder, without its demand for 30 s."""
        model = self.model
        frames, count = self.frontend(waves, lengths)
        x = nn.functional.gelu(model.conv1(frames.transpose(1, 2)))
        x = nn.functional.gelu(model.conv2(x)).transpose(1, 2)[:, : (int(count.max()) + 1) // 2]
        if x.shape[1] > model.max_source_positions:
            raise ValueError(f"Whisper's encoder takes chunks of at most {self.max_s:g} s; set chunks.length_s to that or less")
        x = nn.functional.dropout(x + model.embed_positions.weight[: x.shape[1]], model.dropout, model.training)
        seen = real((count + 1) // 2, x.shape[1])
        mask = torch.zeros_like(seen, dtype=x.dtype).masked_fill(~seen, torch.finfo(x.dtype).min)[:, None, None]
        states = [x]
        for layer in model.layers:
            states.append(layer(states[-1], mask.expand(-1, 1, x.shape[1], -1)))
        return [*states[:-1], model.layer_norm(states[-1])]


FOLDER = "encoder/"  # where an encoder's files travel in a bundle


def encoder_of(source: str, revision: str, carried: Mapping[str, str] | None, rate: int, length_s: float) -> SpeechEncoder:
    """The encoder of a method: opened by its name, or built of the files that a bundle carries, whose weights come later.

    Raises ValueError where `open_encoder` does, or it does not take chunks of `length_s` seconds.
    """
    weights = None
    if carried is None:
        files, weights = open_encoder(source, revision)
    else:
        files = {name.removeprefix(FOLDER): text for name, text in carried.items() if name.startswith(FOLDER)}
    encoder = SpeechEncoder(files, rate, weights)
    if length_s > encoder.max_s:
        raise ValueError(f"this encoder takes chunks of at most {encoder.max_s:g} s, got chunks.length_s={length_s:g}")
    return encoder


def open_encoder(source: str, revision: str = "main") -> tuple[dict[str, str], Path | None]:
    """The describing files of an encoder and the folder of its weights (None: "random/FAMILY"); see the module docstring.

    Raises ValueError where there is none, it cannot be fetched, or its weights are not safetensors.
    """
    if source.startswith(RANDOM):
        return small(source.removeprefix(RANDOM)), None
    place = Path(os.path.expanduser(source))  # a shell leaves method.encoder=~/models/wavlm as it is
    folder = place if place.is_dir() else _fetched(source, revision)
    if not (folder / CONFIG).is_file():
        raise ValueError(f"{source!r} is no encoder: it has no {CONFIG}; wanted a folder in the Hugging Face layout, or a hub id")
    if not has_weights(folder):
        here = folder == place
        no_pickle = "which moodcast wants: it opens no pickle (.bin, .pt), which may run code"
        convert = "transformers.AutoModel.from_pretrained(...).save_pretrained(...) converts it"
        on_hub = "Many hub repositories keep a conversion as a pull request: try method.revision=refs/pr/1"
        raise ValueError(
            f"{source} has no model.safetensors, {no_pickle}; {convert}"
            if here
            else f"{source} (revision {revision}) has no model.safetensors, {no_pickle}. {on_hub}; or {convert}"
        )
    files = {name: _text(folder / name) for name in (CONFIG, EXTRACTOR) if (folder / name).is_file()}
    if (folder / PROCESSOR).is_file():  # goes before, as in the library
        nested = _object(_text(folder / PROCESSOR), PROCESSOR).get(NESTED)
        files |= {EXTRACTOR: json.dumps(nested)} if isinstance(nested, dict) else {}
    return files, folder


def has_weights(folder: Path) -> bool:
    """Whether a folder in the Hugging Face layout holds safetensors, in one file or in shards."""
    return any(path.is_file() for pattern in WEIGHTS for path in folder.glob(pattern))


def small(family: str) -> dict[str, str]:
    """The files of a small encoder of a family, for controls and tests."""
    settings: dict[str, Any] = {**_SMALL, **_CONV, **_POSITIONS}
    if family == "whisper":
        settings = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64, "num_mel_bins": 80}
    elif family == "wav2vec2-bert":
        settings = {**_SMALL, "feature_projection_input_dim": 160, "conv_depthwise_kernel_size": 7}
    elif family not in FAMILIES:
        raise ValueError(f"there is no random encoder {RANDOM}{family}; wanted {RANDOM} and one of {', '.join(FAMILIES)}")
    return {CONFIG: json.dumps({"model_type": family, **settings}), EXTRACTOR: json.dumps({"sampling_rate": 16_000, "do_normalize": True})}


def _fetched(source: str, revision: str) -> Path:
    hub = _library("huggingface_hub")
    wanted = [CONFIG, EXTRACTOR, PROCESSOR, *WEIGHTS, INDEX]
    try:
        folder = Path(hub.snapshot_download(source, revision=revision, allow_patterns=wanted))
    except (ValueError, OSError) as error:  # what the hub's client raises is one of these
        raise ValueError(
            f"the encoder {source!r} (revision {revision}) is neither a folder nor to be had from the hub: "
            f"{str(error).strip().splitlines()[0].rstrip('.')}. Name a folder in the Hugging Face layout, or {RANDOM}wavlm for a control"
        ) from error
    refuse_part(source, revision, folder)
    return folder


def refuse_part(source: str, revision: str, folder: Path, wanted: Sequence[str] = (CONFIG,)) -> None:
    """Raise ValueError where the copy of a repository lacks wanted files, or its weights, and the hub cannot be asked for them.

    Without a network the hub's client hands out whatever it fetched once.
    """
    missing = [name for name in wanted if not (folder / name).is_file()] + ([] if has_weights(folder) else [WEIGHTS[0]])
    if not missing:
        return
    try:
        _library("huggingface_hub").list_repo_files(source, revision=revision)
    except Exception as error:  # the client library below the hub's own changes its name from release to release
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        held = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise ValueError(
            f"the copy of {source} (revision {revision}) that was fetched once lacks {' and '.join(missing)}: {folder} holds {held}, and "
            f"the hub cannot be asked for the rest: {reason}. Fetch it where there is a network, or name a folder that has all"
        ) from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); take a fresh copy") from error


def _object(text: str, name: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{name} of the encoder is not JSON ({error}); take a fresh copy") from error
    if not isinstance(found, dict):
        raise ValueError(f"{name} of the encoder holds no settings; wanted a JSON object")
    return found


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a config that describe a network, and nothing that names code."""
    kept = {name: value for name, value in found.items() if not name.startswith("_") and name not in NOT_KEPT}
    # Ours alone decides what is random in training, and layers that are skipped by chance would stall workers that train together.
    return {**kept, "apply_spec_augment": False, "layerdrop": 0.0, "encoder_layerdrop": 0.0, "add_adapter": False}


def _library(name: str) -> Any:
    """A library of the extra "encoders"; a second to import, and only by who uses it."""
    return library(name, "encoders", "pre-trained encoders need the library")


def _model(family: str, settings: dict[str, Any], weights: Path | None) -> Any:
    """The network, float32. Raises ValueError where the weights in the folder are not all there."""
    hf = _library("transformers")
    try:
        config = hf.AutoConfig.for_model(**settings)
    except Exception as error:  # the library refuses settings by errors of many names
        raise ValueError(f"{CONFIG} of the encoder describes no {family}: {' '.join(str(error).split())[:200]}") from error
    config.use_intermediate_ffn_before_adapter = False
    if family == "wavlm":  # its own attention mixes kinds of masks, which torch announces once a process
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    config._attn_implementation = "eager" if family == "wavlm" else "sdpa"
    if weights is None:
        whisper = family == "whisper"
        try:
            return (
                _library("transformers.models.whisper.modeling_whisper").WhisperEncoder(config)
                if whisper
                else hf.AutoModel.from_config(config)
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"{CONFIG} of the encoder describes no {family} that the library knows: {error}") from error
    logging = hf.utils.logging
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # a head of the checkpoint that is not used is no news
    logging.disable_progress_bar()
    try:
        kind = hf.WhisperModel if family == "whisper" else hf.AutoModel
        model, told = kind.from_pretrained(
            weights,
            config=config,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told below, those of a head that is not used are not
        )
    except (OSError, RuntimeError, KeyError, ValueError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise ValueError(
            f"the encoder in {weights} cannot be opened: {reason}; take a whole copy (a clone by git wants git lfs pull)"
        ) from error
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
    used = model.encoder if family == "whisper" else model
    prefix = "encoder." if family == "whisper" else ""
    missing = [name for name in told["missing_keys"] if name.startswith(prefix) and "masked_spec_embed" not in name]
    if odd := sorted((name, tuple(came), tuple(wanted)) for name, came, wanted in told["mismatched_keys"] if name.startswith(prefix)):
        name, came, wanted = odd[0]
        raise ValueError(f"{weights}: {name} has the shape {came}, and {CONFIG} says {wanted}; they are of two models, take a whole copy")
    if missing:
        raise ValueError(f"{weights} lacks {len(missing)} weights of its encoder, the first is {sorted(missing)[0]}; take a whole copy")
    refuse_broken(used, weights)
    return used


def refuse_broken(model: nn.Module, weights: Path) -> None:
    """Raise ValueError where a weight is infinite or no number: whatever is heard would be, and recordings would be blamed for it."""
    if broken := [name for name, value in model.named_parameters() if not bool(value.isfinite().all())]:
        raise ValueError(f"{weights}: {broken[0]} holds values that are infinite or no numbers; take a fresh copy")


def _frontend(family: str, config: Any) -> Any:
    """Fixed features of a family, made of the library's own filters."""
    hf = _library("transformers")
    if family == "whisper":
        return WhisperLogMel(hf.WhisperFeatureExtractor(feature_size=config.num_mel_bins).mel_filters)
    bands = config.feature_projection_input_dim // 2
    given = hf.SeamlessM4TFeatureExtractor(feature_size=bands, num_mel_bins=bands)
    return KaldiFilterbank(given.mel_filters, given.window)
