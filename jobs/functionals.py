"""What every other method has to beat, on CREMA-D: plain statistics of an utterance and a logistic regression, solved in a moment.

    python -m jobs.functionals cremad.parquet
    python -m jobs.functionals cremad.parquet method.classifier=mlp train.epochs=30
    python -m jobs.functionals cremad.parquet method.features=egemaps

The last needs the extra "functionals", opensmile, whose licence allows research and private use only.
"""

from __future__ import annotations

from moodcast.chunks import ChunkPlan
from moodcast.cluster.job import main
from moodcast.labels import Labels
from moodcast.methods.functionals import Functionals
from moodcast.run import Run, Train

DATA = ("cremad",)
RUN = Run(
    method=Functionals.Config(),
    labels=Labels(("angry", "happy", "neutral", "sad")),
    chunks=ChunkPlan(length_s=6.0, hop_s=6.0),
    train=Train(epochs=1, batch_size=32, lr=1e-3, weight_decay=1e-2, balance="class"),
)

if __name__ == "__main__":
    main(RUN, DATA)
