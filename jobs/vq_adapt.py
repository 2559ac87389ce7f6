"""A quantised codebook that a labelled corpus and recordings without labels share.

    moodcast prepare cremad FOLDER && moodcast prepare emodb FOLDER
    python -m jobs.vq_adapt cremad.parquet --target emodb.parquet --into bundles/german
    python -m jobs.vq_adapt cremad.parquet --target emodb.parquet method.information=none

The paper's settings are not public: these are ours. The first quarter of the training is without codes. Watch perplexity_source,
perplexity_target and domain_bits in the log: few codes, or codes of one domain alone, are how this method fails.
"""

from __future__ import annotations

from moodcast.chunks import ChunkPlan
from moodcast.cluster.job import main
from moodcast.labels import Labels
from moodcast.methods.vq_adapt import VqAdapt
from moodcast.run import Run, Train

DATA = ("cremad",)
RUN = Run(
    method=VqAdapt.Config(),
    labels=Labels(("angry", "happy", "neutral", "sad")),
    chunks=ChunkPlan(length_s=3.0, hop_s=3.0),
    train=Train(epochs=40, batch_size=32, lr=1e-3, weight_decay=1e-2, balance="class", keep="last"),
)

if __name__ == "__main__":
    main(RUN, DATA)
