"""The baseline of every other method: four emotions from log-mel frames, on CREMA-D.

moodcast prepare cremad FOLDER && python -m jobs.erm cremad.parquet
"""

from __future__ import annotations

from moodcast.chunks import ChunkPlan
from moodcast.cluster.job import main
from moodcast.labels import Labels
from moodcast.methods.erm import Erm
from moodcast.run import Run, Train

DATA = ("cremad",)
RUN = Run(
    method=Erm.Config(),
    labels=Labels(("angry", "happy", "neutral", "sad")),
    chunks=ChunkPlan(length_s=3.0, hop_s=3.0),
    train=Train(epochs=20, batch_size=32, lr=1e-3, weight_decay=1e-2, balance="class"),
)

if __name__ == "__main__":
    main(RUN, DATA)
