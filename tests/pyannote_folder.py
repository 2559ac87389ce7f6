"""A pyannote.audio pipeline in a local folder: tiny, with random weights, in the layout of the hub's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

CONFIG = """
pipeline:
  name: pyannote.audio.pipelines.SpeakerDiarization
  params:
    clustering: AgglomerativeClustering
    segmentation: $model/segmentation
    segmentation_step: 0.5
    embedding: $model/embedding
    plda: $model/plda
params:
  segmentation: {min_duration_off: 0.3}
  clustering: {method: centroid, min_cluster_size: 1, threshold: 0.02}
"""


def make(folder: Path, wave: NDArray[np.float32]) -> Path:
    """The pipeline in `folder`. Nothing is learnt, but its answers are centred on `wave`, so that several speakers come and go in it."""
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.embedding import XVectorMFCC
    from pyannote.audio.models.segmentation import PyanNet

    torch.manual_seed(0)
    heard: Any = PyanNet(
        lstm={"hidden_size": 8, "num_layers": 1, "bidirectional": True, "monolithic": True}, linear={"hidden_size": 8, "num_layers": 1}
    )
    heard.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=5.0,
        classes=["a", "b", "c"],
        powerset_max_classes=2,
        permutation_invariant=True,
    )
    heard.build()
    heard.eval()
    with torch.no_grad():
        heard.classifier.bias -= heard(torch.from_numpy(wave[: 5 * 16_000])[None, None]).mean((0, 1))
    voice: Any = XVectorMFCC(mfcc={"n_mfcc": 20, "melkwargs": {"n_mels": 40}}, dimension=16)
    voice.specifications = Specifications(problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=2.0, classes=["a", "b"])
    voice.build()
    save(heard, folder / "segmentation")
    save(voice, folder / "embedding")
    (folder / "plda").mkdir()
    np.savez(folder / "plda" / "xvec_transform.npz", mean1=np.zeros(16), mean2=np.zeros(8), lda=np.eye(16, 8))
    np.savez(folder / "plda" / "plda.npz", mu=np.zeros(8), tr=np.eye(8), psi=np.linspace(2, 1, 8))
    (folder / "config.yaml").write_text(CONFIG)
    return folder


def save(model: Any, folder: Path) -> None:
    """A checkpoint as pyannote.audio writes it."""
    folder.mkdir(parents=True)
    kept = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams), "pytorch-lightning_version": "2.6.6"}
    model.on_save_checkpoint(kept)
    torch.save(kept, folder / "pytorch_model.bin")
