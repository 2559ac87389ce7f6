"""What was said: any speech recogniser of the Hugging Face hub, by folder or hub id, as a function of waves.

Two kinds: encoders with a letter or a piece of a word a frame (CTC: wav2vec 2.0, HuBERT, WavLM, ... with `ForCTC`), and those that write
word after word (Whisper and its kin). A wave longer than the recogniser hears at once is split evenly, and the texts are joined.

The same rules as for encoders: a hub id is fetched only because it was named, weights are read from safetensors alone, code that a
repository brings is never run, and of its config only plain settings are kept. Shapes: N samples.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moodcast import audio
from moodcast.chunks import samples_of, split_evenly
from moodcast.extras import library
from moodcast.nn.pretrained import NOT_KEPT, WEIGHTS, has_weights, refuse_part

Wave = NDArray[np.float32]
CONFIG = "config.json"
GENERATION = "generation_config.json"  # where recognisers of several languages name them
NO_NAME = "{source!r} is no transcriber: wanted a folder in the Hugging Face layout, or a hub id (owner/name)"
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
WANTED = ("*.json", "*.txt", "*.model", *WEIGHTS)
SHORTEST_S = 0.1  # below it no word is said, and networks with a letter a frame have no frame
LONGEST_S = 30.0  # what is heard at once; Whisper cannot hear more, and attention of the others grows with the square
SEVERAL = 8  # pieces that Whisper writes down at once
MOST_TOKENS = 440  # of a piece: 30 s of very fast speech


class Transcriber:
    """An opened recogniser; make one with `open_transcriber`. Threads take turns.

    kind: "ctc" or "seq2seq". language: which one is spoken ("de"), for recognisers of several; None lets them find out.
    """

    def __init__(self, model: Any, extractor: Any, tokenizer: Any, kind: str, name: str, language: str | None = None) -> None:
        self.model = model.eval()
        self.extractor = extractor
        self.tokenizer = tokenizer
        self.kind = kind
        self.name = name
        self.language = language
        self._lock = threading.Lock()

    def transcribe(self, waves: Sequence[Wave], rate: int) -> list[str]:
        """A text for each wave, mono [N] at `rate` Hz, "" where no words were heard or there is no room for one; the same alone and among
        others.
        """
        own = int(self.extractor.sampling_rate)
        heard = [audio.convert(wave, rate, own) if rate != own else wave for wave in waves]
        longest, shortest = samples_of(LONGEST_S, own), samples_of(SHORTEST_S, own)
        long_enough = [(i, wave) for i, wave in enumerate(heard) if len(wave) >= shortest]
        pieces = [(i, wave[start:stop]) for i, wave in long_enough for start, stop in split_evenly(len(wave), longest)]
        with self._lock, torch.inference_mode():
            said = self._read([piece for _, piece in pieces]) if self.kind == "ctc" else self._written([piece for _, piece in pieces])
        texts: list[list[str]] = [[] for _ in waves]
        for (i, _), text in zip(pieces, said, strict=True):
            texts[i].append(text)
        return [" ".join(" ".join(parts).split()) for parts in texts]

    def _read(self, pieces: Sequence[Wave]) -> list[str]:
        """By CTC: the best token of each frame. One at a time, because padding changes what some of these networks hear."""
        found = []
        for piece in pieces:
            inputs = self.extractor(np.ascontiguousarray(piece), sampling_rate=self.extractor.sampling_rate, return_tensors="pt")
            logits = self.model(**inputs.to(self.model.device)).logits
            found.append(str(self.tokenizer.decode(logits[0].argmax(-1), skip_special_tokens=True)))
        return found

    def _written(self, pieces: Sequence[Wave]) -> list[str]:
        """Word after word, the most probable each time. Every piece is padded to the same length, so batches change nothing."""
        found: list[str] = []
        spoken = {"language": self.language, "task": "transcribe"} if self.language else {}
        most = min(MOST_TOKENS, int(getattr(self.model.config, "max_target_positions", None) or MOST_TOKENS) - 8)
        for first in range(0, len(pieces), SEVERAL):
            some = [np.ascontiguousarray(piece) for piece in pieces[first : first + SEVERAL]]
            inputs = self.extractor(some, sampling_rate=self.extractor.sampling_rate, return_tensors="pt", return_attention_mask=True)
            with warnings.catch_warnings(), quiet():
                warnings.simplefilter("ignore")
                tokens = self.model.generate(**inputs.to(self.model.device), max_new_tokens=most, do_sample=False, num_beams=1, **spoken)
            found += self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return found


def open_transcriber(source: str | Path, language: str | None = None) -> Transcriber:
    """A recogniser by folder or hub id ("owner/name"); on the GPU where there is one.

    Raises ValueError, in a sentence that says what to do, where there is none, it cannot be fetched, its weights are not safetensors, it
    is no recogniser of speech, or it does not know the language.
    """
    source, place = str(source), Path(os.path.expanduser(source))  # a shell leaves --transcriber=~/whisper as it is
    folder = place if place.is_dir() else _fetched(source)
    settings, kind = _of_folder(folder, source, language)
    hf = _library()
    plain = {name: value for name, value in settings.items() if name not in NOT_KEPT and name != "model_type"}
    here = {"trust_remote_code": False, "local_files_only": True}
    try:
        with quiet():
            config = hf.AutoConfig.for_model(settings["model_type"], **plain)
            made = hf.AutoModelForCTC if kind == "ctc" else hf.AutoModelForSpeechSeq2Seq
            model, told = made.from_pretrained(
                folder, config=config, use_safetensors=True, output_loading_info=True, dtype=torch.float32, **here
            )
            extractor, tokenizer = (part.from_pretrained(folder, **here) for part in (hf.AutoFeatureExtractor, hf.AutoTokenizer))
    except Exception as error:  # the library refuses what it reads by errors of many names
        reason = " ".join(str(error).split())[:240]
        raise ValueError(f"{source} cannot be opened as a speech recogniser ({reason}); take a whole copy, with its tokenizer") from error
    if missing := sorted(name for name in told["missing_keys"] if "masked_spec_embed" not in name):
        raise ValueError(f"{source} lacks {len(missing)} weights of its recogniser, the first is {missing[0]}; take a whole copy")
    if torch.cuda.is_available():
        model.to("cuda")
    name = f"{folder.name if place.is_dir() else source}/{_digest(folder)}" + (f" ({language})" if language else "")
    return Transcriber(model, extractor, tokenizer, kind, name, language)


def check(source: str | Path, language: str | None = None) -> None:
    """Raises ValueError where a folder holds no recogniser, or none of this language, or the name is no hub id.

    What is on a hub is looked at when it is opened.
    """
    if (place := Path(os.path.expanduser(source))).is_dir():
        _of_folder(place, str(source), language)
    elif not HUB_NAME.fullmatch(str(source)):
        raise ValueError(NO_NAME.format(source=str(source)))


@contextmanager
def quiet() -> Iterator[None]:
    """The library says nothing below an error: its advice is for those who call it."""
    logging = _library().utils.logging
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()


def _library() -> Any:
    return library("transformers", "encoders", "a transcriber needs the library")


def _of_folder(folder: Path, source: str, language: str | None) -> tuple[dict[str, Any], str]:
    """The config, and the kind, of the recogniser in a folder, which knows the language where one is named."""
    settings = _settings(folder, source)
    kind = _kind(settings, source)
    if not has_weights(folder):
        raise ValueError(
            f"{source} has no model.safetensors, and moodcast opens no pickle (.bin, .pt), which may run code; convert it first"
        )
    if language is not None:
        _check_language(folder, source, language)
    return settings, kind


def _check_language(folder: Path, source: str, language: str) -> None:
    """Raise ValueError where a recogniser cannot be told of the language: it knows one alone, or others."""
    path = folder / GENERATION
    try:
        told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"the {GENERATION} of {source}, which names its languages, is not JSON ({error}); take a fresh copy") from error
    known = sorted(code.strip("<|>") for code in told.get("lang_to_id") or ())
    if not known:
        raise ValueError(f"{source} cannot be told which language is spoken (it knows what it was trained on); leave the language out")
    _library()
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    asked = language.lower().strip("<|>")
    if TO_LANGUAGE_CODE.get(asked, asked) not in known:
        raise ValueError(f"{source} does not know the language {language!r}; wanted one of {', '.join(known)}, or none, to let it find out")


def _settings(folder: Path, source: str) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{source} is no speech recogniser: it has no {CONFIG}; wanted a folder in the Hugging Face layout, or a hub id")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"the {CONFIG} of {source} is not JSON ({error}); take a fresh copy") from error
    if not isinstance(found, dict) or not isinstance(found.get("model_type"), str):
        raise ValueError(f"the {CONFIG} of {source} does not say what it is (model_type); wanted a speech recogniser of the hub")
    return found


def _kind(settings: dict[str, Any], source: str) -> str:
    """ "ctc" or "seq2seq", by the class that the config names."""
    names = [str(name) for name in settings.get("architectures") or ()]
    if any(name.endswith("ForCTC") for name in names):
        return "ctc"
    if any(name.endswith(("ForConditionalGeneration", "ForSpeechSeq2Seq")) for name in names):
        return "seq2seq"
    raise ValueError(
        f"{source} is a {settings['model_type']} ({', '.join(names) or 'no class named'}) and writes no words; "
        "wanted a speech recogniser: one of Whisper's kind, or ...ForCTC"
    )


def _fetched(source: str) -> Path:
    if not HUB_NAME.fullmatch(source):
        raise ValueError(NO_NAME.format(source=source))
    hub = library("huggingface_hub", "encoders", "a transcriber needs the library")
    try:
        folder = Path(hub.snapshot_download(source, allow_patterns=list(WANTED)))
    except (ValueError, OSError) as error:  # what the hub's client raises is one of these
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(
            f"the transcriber {source!r} is neither a folder nor to be had from the hub: {reason}. "
            "A token, where one is needed, goes into HF_TOKEN"
        ) from error
    refuse_part(source, "main", folder)
    return folder


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in (folder / CONFIG, *sorted(folder.glob("*.safetensors"))):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]
