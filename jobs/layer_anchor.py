"""Layers of an encoder that carry over to recordings without labels are held together while the rest learns.

    moodcast prepare cremad FOLDER && moodcast prepare emodb FOLDER
    python -m jobs.layer_anchor cremad.parquet --target emodb.parquet --into bundles/german
    python -m jobs.layer_anchor cremad.parquet --target emodb.parquet method.anchors=last
    python -m jobs.layer_anchor cremad.parquet --target emodb.parquet method.encoder=microsoft/wavlm-base method.group=3

The first trains the small encoder; the last takes all layers of a frozen one, computed once. The paper's settings are not public: these
are ours.
"""

from __future__ import annotations

from moodcast.chunks import ChunkPlan
from moodcast.cluster.job import main
from moodcast.labels import Labels
from moodcast.methods.layer_anchor import LayerAnchor
from moodcast.run import Run, Train

DATA = ("cremad",)
RUN = Run(
    method=LayerAnchor.Config(),
    labels=Labels(("angry", "happy", "neutral", "sad")),
    chunks=ChunkPlan(length_s=3.0, hop_s=3.0),
    train=Train(epochs=30, batch_size=32, lr=1e-3, weight_decay=1e-2, balance="class", keep="last"),
)

if __name__ == "__main__":
    main(RUN, DATA)
