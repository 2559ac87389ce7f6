"""Fisher vectors and kernel ridge regression on CREMA-D: nothing is trained by steps, all is fitted once.

    python -m jobs.fisher cremad.parquet
    python -m jobs.fisher cremad.parquet method.gaussians=64 method.strength=0.3

There is one epoch because a run has one at least; it leaves everything as it was fitted.
"""

from __future__ import annotations

from moodcast.chunks import ChunkPlan
from moodcast.cluster.job import main
from moodcast.labels import Labels
from moodcast.methods.fisher import Fisher
from moodcast.run import Run, Train

DATA = ("cremad",)
RUN = Run(
    method=Fisher.Config(),
    labels=Labels(("angry", "happy", "neutral", "sad")),
    chunks=ChunkPlan(length_s=6.0, hop_s=6.0),
    train=Train(epochs=1, batch_size=32, lr=1e-3, weight_decay=1e-2, balance="class"),
)

if __name__ == "__main__":
    main(RUN, DATA)
