"""A mean teacher from a labelled corpus to recordings without labels.

    moodcast prepare cremad FOLDER && moodcast prepare emodb FOLDER
    python -m jobs.mean_teacher cremad.parquet --target emodb.parquet --into bundles/german
    python -m jobs.mean_teacher cremad.parquet --target emodb.parquet method.front.kind=log_mel chunks.length_s=3 chunks.hop_s=3

Statistics of utterances under a small network, as docs/adaptation.md compares them; the second line hears log-mel frames instead.
"""

from __future__ import annotations

from moodcast.adapting import Front
from moodcast.chunks import ChunkPlan
from moodcast.cluster.job import main
from moodcast.labels import Labels
from moodcast.methods.mean_teacher import MeanTeacher
from moodcast.run import Run, Train

DATA = ("cremad",)
RUN = Run(
    method=MeanTeacher.Config(front=Front(kind="functionals")),
    labels=Labels(("angry", "happy", "neutral", "sad")),
    chunks=ChunkPlan(length_s=6.0, hop_s=6.0),
    train=Train(epochs=15, batch_size=32, lr=1e-3, weight_decay=1e-2, balance="class", keep="last"),
)

if __name__ == "__main__":
    main(RUN, DATA)
