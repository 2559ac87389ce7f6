"""Frames of a recording as vectors with times: a cepstrum of log-mel, a layer of a Hugging Face encoder, or of the one inside a bundle.

Shapes: L samples, N chunks, T frames, D width, S layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dct  # type: ignore[import-untyped]

from moodcast import features
from moodcast.batch import collate
from moodcast.bundle import Bundle
from moodcast.chunks import samples_of, split_evenly
from moodcast.method import device_of
from moodcast.nn.encoder import ConvEncoder
from moodcast.nn.pretrained import SpeechEncoder, encoder_of

Floats = NDArray[np.float32]
Framer = Callable[[Floats], tuple[Floats, NDArray[np.float64]]]  # samples [L] -> frames [T, D] and their middles in seconds [T]

RATE = 16_000  # Hz, of the cepstrum and of every Hugging Face encoder here
BANDS, KEPT = 40, 20  # of the cepstrum: mel bands and coefficients
EVERY = 2  # log-mel frames of 10 ms a frame
LONGEST_S = 20.0  # heard at once by a Hugging Face encoder


def cepstrum() -> Framer:
    """20 cepstral coefficients of log-mel with their first and second differences, every 20 ms: D is 60."""
    log_mel = features.LogMel(RATE, BANDS)

    def framed(wave: Floats) -> tuple[Floats, NDArray[np.float64]]:
        frames, mask = log_mel(torch.from_numpy(np.array(wave, dtype=np.float32))[None], torch.tensor([len(wave)]))
        static = torch.from_numpy(dct(frames.numpy(), norm="ortho")[..., :KEPT]) * mask[..., None]
        first = features.deltas(static, mask)
        whole = torch.cat([static, first, features.deltas(first, mask)], dim=-1)[mask][::EVERY]
        middles = np.arange(0, int(mask.sum()), EVERY) * features.HOP_S + features.WINDOW_S / 2
        return np.asarray(whole.numpy(), dtype=np.float32), np.asarray(middles, dtype=np.float64)

    return framed


def of_encoder(source: str, layer: int = -1, revision: str = "main") -> Framer:
    """Layer `layer` (0 is the embedding, -1 the last) of a Hugging Face encoder: a folder, a hub id, or random/FAMILY.

    Raises ValueError where `open_encoder` does, or it has no such layer.
    """
    encoder = encoder_of(source, revision, None, RATE, LONGEST_S)
    at = _layer(layer, encoder.num_layers + 1)

    @torch.inference_mode()
    def framed(wave: Floats) -> tuple[Floats, NDArray[np.float64]]:
        found, times = [], []
        for start, stop in split_evenly(len(wave), samples_of(LONGEST_S, RATE)):
            part = torch.from_numpy(np.array(wave[start:stop], dtype=np.float32))[None]
            states, mask = encoder(part, torch.tensor([stop - start]))
            frames, middles = _real(states[:, at], mask, [(start, stop)], RATE)
            found.append(frames)
            times.append(middles)
        return np.concatenate(found), np.concatenate(times)

    return framed


def of_bundle(bundle: Bundle, layer: int = -1) -> Framer:
    """Layer `layer` of the first encoder inside a bundle, heard as the bundle hears: its chunks, its normalisation.

    Raises ValueError where it has no encoder of frames, or no such layer.
    """
    encoder = next((part for part in bundle.method.modules() if isinstance(part, (SpeechEncoder, ConvEncoder))), None)
    if encoder is None:
        raise ValueError(f"{type(bundle.method).__name__} has no encoder of frames; take another bundle, or frames of log-mel")
    layers: list[Any] = [] if isinstance(encoder, SpeechEncoder) else [encoder.dropout, *encoder.blocks]
    at = _layer(layer, encoder.num_layers + 1 if isinstance(encoder, SpeechEncoder) else len(layers))
    heard: dict[str, Any] = {}

    def keep(name: str) -> Any:
        return lambda _module, _given, answer: heard.__setitem__(name, answer)

    @torch.inference_mode()
    def framed(wave: Floats) -> tuple[Floats, NDArray[np.float64]]:
        hooks = [encoder.register_forward_hook(keep("whole"))]
        if layers:
            hooks.append(layers[at].register_forward_hook(keep("layer")))
        found, times = [], []
        try:
            for start, stop in split_evenly(len(wave), samples_of(bundle.run.chunks.max_s, bundle.rate)):
                part = np.array(wave[start:stop], dtype=np.float32)
                bundle.method(collate([part], bundle.run.chunks, bundle.rate).to(device_of(bundle.method)))
                states, mask = heard["whole"]
                states = heard["layer"] if layers else states[:, at]
                spans = [(start + a, start + b) for a, b in bundle.run.chunks.spans(stop - start, bundle.rate)]
                frames, middles = _real(states.cpu(), mask.cpu(), spans, bundle.rate)
                found.append(frames)
                times.append(middles)
        finally:
            for hook in hooks:
                hook.remove()
        return np.concatenate(found), np.concatenate(times)

    return framed


def _real(states: torch.Tensor, mask: torch.Tensor, spans: list[tuple[int, int]], rate: int) -> tuple[Floats, NDArray[np.float64]]:
    """The real frames of chunks [N, T, D] in a row, each an equal share of its chunk's span (start, stop) in samples."""
    middles = []
    for count, (start, stop) in zip(mask.sum(-1).tolist(), spans, strict=True):
        middles.append((start + (np.arange(count) + 0.5) * (stop - start) / max(count, 1)) / rate)
    return np.asarray(states[mask].numpy()), np.concatenate(middles)


def _layer(layer: int, count: int) -> int:
    if not -count <= layer < count:
        raise ValueError(f"there are layers 0 to {count - 1}, or -1 for the last; got {layer}")
    return layer % count
