"""Four losses, energy-adaptive mixup and frame-level attention (Wang et al. 2025), on RAVDESS.

Published for RAVDESS: eight classes. Neither the paper's optimiser nor its split is known; of what its authors publish beside it: chunks
of at most 6 s, batches of 16 to 64, 30 to 40 epochs, classes drawn alike. Ours: an encoder trained from scratch at a rate of 1e-3. A
pre-trained one goes in its place, with the paper's 16 heads where it is WavLM-Large:

    moodcast prepare ravdess FOLDER && python -m jobs.multi_loss ravdess.parquet
    python -m jobs.multi_loss ravdess.parquet method.mix.kind=none method.weights.focal=0
    python -m jobs.multi_loss ravdess.parquet method.encoder=microsoft/wavlm-large method.heads=16 train.lr=1e-4
"""

from __future__ import annotations

from moodcast.chunks import ChunkPlan
from moodcast.cluster.job import main
from moodcast.labels import Labels
from moodcast.methods.multi_loss import MultiLoss
from moodcast.run import Run, Train

DATA = ("ravdess",)
RUN = Run(
    method=MultiLoss.Config(),
    labels=Labels(("angry", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise")),
    chunks=ChunkPlan(length_s=6.0, hop_s=6.0),
    train=Train(epochs=30, batch_size=32, lr=1e-3, weight_decay=1e-2, balance="class"),
)

if __name__ == "__main__":
    main(RUN, DATA)
