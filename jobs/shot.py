"""SHOT: a bundle that was trained with labels moves to recordings without any; the corpus it learned from is not needed.

    python -m jobs.target_norm cremad.parquet --target emodb.parquet --name begun
    python -m jobs.shot --target emodb.parquet start_from=runs/begun/bundle --into bundles/german

Any of the methods that adapt can be started from, as long as its front is the same.
"""

from __future__ import annotations

from moodcast.adapting import Front
from moodcast.chunks import ChunkPlan
from moodcast.cluster.job import main
from moodcast.labels import Labels
from moodcast.methods.shot import Shot
from moodcast.run import Run, Train

DATA = ("emodb",)
RUN = Run(
    method=Shot.Config(front=Front(kind="functionals")),
    labels=Labels(("angry", "happy", "neutral", "sad")),
    chunks=ChunkPlan(length_s=6.0, hop_s=6.0),
    train=Train(epochs=15, batch_size=32, lr=1e-3, weight_decay=1e-2, balance="none", keep="last"),
    start_prefixes=("trunk.",),
)

if __name__ == "__main__":
    main(RUN, DATA)
