"""A bundle as one ONNX file: chunks of a waveform in, calibrated log-probabilities out, the bundle's own answers to 1e-4.

    chunks [B, C, L] float32     cut by the bundle's plan, zero where padded; B and C are free, L is the plan's chunk length in samples
    lengths [B, C] int64         samples that are real, 0 where there is no chunk
    log_probs [B, K]             of each stretch
    chunk_log_probs [B, C, K]    of each chunk, where the method answers chunks; 0 chunks' rows mean nothing
    attributes [B, A]            of each stretch, in [0, 1], where the bundle answers some

What a runtime cannot read off the graph stands in its metadata: classes, attributes, rate, plan, the bundle's SHA-256. The file is compared
with the bundle before it is kept. B stretches, C chunks, L samples, N chunks that exist, T frames, M bands, K classes, A attributes.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moodcast.answer import tempered
from moodcast.batch import Batch, Prediction, collate
from moodcast.bundle import Bundle, probe_signal
from moodcast.chunks import samples_of
from moodcast.config import to_dict
from moodcast.features import TINY, LogMel
from moodcast.nn import frontends
from moodcast.nn.waves import samples_in

OPSET = 17
TOLERANCE = 1e-4  # of log-probabilities, and of attributes
NOISE = np.float32(1e-3)  # deviation of samples: some 35 dB below the voice
INPUTS = ("chunks", "lengths")
BY_CHUNK = (*INPUTS, "chunk_log_probs")  # with an axis of chunks
OTHERS = "a method that hears log-mel frames and nothing else, such as erm, can be written"


def to_onnx(bundle: Bundle, path: str | Path) -> Path:
    """Write the bundle as an ONNX file, when its answers are those of the bundle.

    Raises ValueError where the method answers no classes, uses something that ONNX has not or computes outside of torch, or the answers
    differ; ModuleNotFoundError without the extra "onnx".
    """
    import onnx  # noqa: F401  (what is missing is told before minutes of work)
    import onnxruntime  # type: ignore[import-untyped]  # noqa: F401

    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; wanted the name of a file in it, for example {path / 'model.onnx'}")
    refused = f"{bundle.name} ({type(bundle.method).__name__}) cannot be written as ONNX"
    if "text" in bundle.method.inputs:
        raise ValueError(f"{refused}: it cuts the sound by the words that it reads, and the graph is fed with sound alone; {OTHERS}")
    graph = Graph(bundle).eval()  # else the exporter leaves the method in training mode
    length_s = bundle.run.chunks.length_s
    example = collate(_waves(bundle, (2.3 * length_s, 1.2 * length_s, 0.4 * length_s)), bundle.run.chunks, bundle.rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        half = Path(folder) / path.name
        with _exportable(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of tracing: what it takes for constants are constants here, and the answers are compared
            outputs = list(graph.answers(example.chunks, example.lengths))
            try:
                torch.onnx.export(
                    graph,
                    (example.chunks, example.lengths),
                    str(half),
                    dynamo=False,  # the newer exporter cannot follow chunks that do not exist
                    opset_version=OPSET,
                    input_names=list(INPUTS),
                    output_names=outputs,
                    dynamic_axes={name: {0: "B", 1: "C"} if name in BY_CHUNK else {0: "B"} for name in (*INPUTS, *outputs)},
                )
            except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError) as error:
                line = str(error).strip().splitlines()[0][:300]
                raise ValueError(f"{refused}, which lacks something that it computes with (torch: {line}); {OTHERS}") from error
        _describe(half, bundle)
        _check_inputs(half, refused)
        try:
            difference = compare(bundle, half)
        except Exception as error:  # what the runtime raises has no common name
            if not type(error).__module__.startswith("onnxruntime"):
                raise
            line = " ".join(str(error).split())[:300]
            raise ValueError(f"{refused}, the file does not run (onnxruntime: {line}); {OTHERS}") from error
        if not difference <= TOLERANCE:
            raise ValueError(f"the ONNX file answers otherwise than {bundle.name}, by {difference:.2g} (allowed {TOLERANCE:g}); not kept")
        os.replace(half, path)
    return path


def compare(bundle: Bundle, path: str | Path) -> float:
    """The largest difference of an answer between a bundle and an ONNX file, over batches of several sizes and lengths."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # an error is raised as well
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    worst = 0.0
    for seconds in ((1.0,), (0.3, 2.0, 3.1), (6.5, 0.05), (0.5, 0.5, 0.5, 0.5, 9.0)):
        waves = _waves(bundle, seconds)
        batch = collate(waves, bundle.run.chunks, bundle.rate)
        given = dict(zip(names, session.run(None, {"chunks": batch.chunks.numpy(), "lengths": batch.lengths.numpy()}), strict=True))
        real = batch.lengths.numpy() > 0
        for name, ours in named(bundle.raw(waves)).items():
            apart = np.abs(given[name] - ours.numpy())
            worst = max(worst, float((apart[real] if name in BY_CHUNK else apart).max()))
    return worst


def named(prediction: Prediction) -> dict[str, Tensor]:
    """What the file answers of what a method does, in the order of its outputs."""
    found = {"log_probs": prediction.emotion, "chunk_log_probs": prediction.chunk_emotion, "attributes": prediction.attributes}
    return {name: value for name, value in found.items() if value is not None}


class Graph(nn.Module):
    """A bundle's method as a function of tensors, calibration included."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.method, self.rate, self.temperature = bundle.method, bundle.rate, bundle.calibration.temperature
        self.plan = bundle.run.chunks

    def forward(self, chunks: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """The values of `answers`."""
        return tuple(self.answers(chunks, lengths).values())

    def answers(self, chunks: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """chunks [B, C, L], lengths [B, C] -> outputs by name."""
        seconds = samples_in(lengths, lengths.sum(1) / self.rate, self.plan, self.rate) / self.rate  # chunks of a hop may overlap
        found = tempered(self.method(Batch(chunks, lengths, seconds)), self.temperature)
        if found.emotion is None:
            raise ValueError(f"{type(self.method).__name__} answers no classes; there is nothing to export")
        return named(found)


def log_mel_by_convolution(log_mel: LogMel, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """`LogMel.forward` in real numbers: a strided convolution with windowed cosines and sines is the discrete Fourier transform.

    waves [N, L], lengths [N] -> frames [N, T, M], mask [N, T].
    """
    at = torch.arange(log_mel.width, dtype=torch.float64)
    angle = torch.arange(log_mel.fft // 2 + 1, dtype=torch.float64)[:, None] * at * (2 * np.pi / log_mel.fft)
    kernel = torch.cat([torch.cos(angle), torch.sin(angle)]) * log_mel.window[: log_mel.width].double()
    padded = nn.functional.pad(waves, (0, max(0, log_mel.width - int(waves.shape[-1]))))
    parts = nn.functional.conv1d(padded[:, None], kernel.float()[:, None], stride=log_mel.hop).square()
    power = (parts[:, : len(angle)] + parts[:, len(angle) :]).transpose(1, 2)
    frames = torch.log(power @ log_mel.filters + TINY)
    mask = torch.arange(frames.shape[1]) < log_mel.num_frames(lengths)[:, None]
    return frames * mask[..., None], mask


def layer_norm_in_parts(
    values: Tensor, shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Layer normalisation whose shape need not be known while tracing."""
    last = tuple(range(-len(shape), 0))
    centred = values - values.mean(last, keepdim=True)
    normed = centred / (centred.square().mean(last, keepdim=True) + eps).sqrt()
    normed = normed if weight is None else normed * weight
    return normed if bias is None else normed + bias


def unfold_by_convolution(values: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """`values.unfold(-1, size, step)` of [N, L], [N, T, size]: a convolution with ones that each pick a sample."""
    return nn.functional.conv1d(values[:, None], torch.eye(size)[:, None], stride=step).transpose(1, 2)


def rfft_by_product(values: Tensor, n: int | None = None) -> Tensor:
    """The discrete Fourier transform of the last axis, which has at most n, as real and imaginary parts in one more axis."""
    angle = torch.arange((n or values.shape[-1]) // 2 + 1) * torch.arange(values.shape[-1], dtype=torch.float64)[:, None]
    angle = angle * (2 * np.pi / (n or values.shape[-1]))
    exact = values.double()
    return torch.stack([exact @ torch.cos(angle), exact @ -torch.sin(angle)], dim=-1).float()


@contextmanager
def _exportable() -> Iterator[None]:
    """What ONNX cannot express, or the tracer cannot follow, in a form of the same value."""
    with (
        patch.object(LogMel, "forward", log_mel_by_convolution),
        patch.object(nn.functional, "layer_norm", layer_norm_in_parts),
        patch.object(Tensor, "unfold", unfold_by_convolution),  # what Whisper and Wav2Vec2-BERT are fed is made of these three
        patch.object(torch.fft, "rfft", rfft_by_product),
        patch.object(torch, "view_as_real", lambda parts: parts),
        patch.object(frontends, "len", lambda rows: rows.shape[0], create=True),  # of which the tracer knows that it is free
        patch.object(torch._C, "_jit_onnx_log", lambda *told: None),  # which prints hundreds of lines of a graph that failed
    ):
        yield


def _check_inputs(path: Path, refused: str) -> None:
    """Raise ValueError where the graph does not hear what comes in: what was computed outside of torch stands in it as a constant."""
    import onnx

    if {given.name for given in onnx.load(str(path)).graph.input} != set(INPUTS):
        raise ValueError(f"{refused}: its features are computed outside of torch, where no exporter can follow; {OTHERS}")


def _waves(bundle: Bundle, seconds: Sequence[float]) -> list[NDArray[np.float32]]:
    """Voice-like signals of different lengths, none longer than the plan covers, with a little noise.

    Without it, bands between the harmonics hold nothing but errors of rounding, of which a filterbank without a floor takes the logarithm.
    """
    found = [probe_signal(bundle.rate, min(bundle.run.chunks.max_s, s)) for s in seconds]
    draw = np.random.default_rng(0)
    return [wave + NOISE * draw.standard_normal(len(wave), dtype=np.float32) for wave in found]


def _describe(path: Path, bundle: Bundle) -> None:
    """Metadata beside the graph."""
    import onnx

    model: Any = onnx.load(str(path))
    plan = to_dict(bundle.run.chunks)
    told = {
        "classes": json.dumps(list(bundle.classes)),
        "attributes": json.dumps(list(bundle.run.labels.attributes)),
        "sampling_rate": str(bundle.rate),
        "chunk_samples": str(samples_of(bundle.run.chunks.length_s, bundle.rate)),
        "chunks": json.dumps(plan),
        "max_s": str(bundle.run.chunks.max_s),
        "bundle": bundle.name,
        "sha256": bundle.sha256,
    }
    onnx.helper.set_model_props(model, told)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
