"""Dynamic chunking with attention across chunks (Lin & Busso 2023), on CREMA-D.

Published: batches of 128 sentences, Adam at 1e-4 for 100 epochs, chunks of 1 s, 11 a sentence, for utterances of 2.75 to 11 s. CREMA-D's
last 1.3 to 5 s, where chunks of 1 s would nearly coincide: chunks of 0.5 s, 11 a sentence, which cover 5.5 s. Ours: balanced classes,
warm-up and cosine decay, ten times the learning rate for a fifth of the epochs, since the corpus is a fifth of theirs.

    moodcast prepare cremad FOLDER && python -m jobs.chunk_attention cremad.parquet
"""

from __future__ import annotations

from moodcast.chunks import ChunkPlan
from moodcast.cluster.job import main
from moodcast.labels import Labels
from moodcast.methods.chunk_attention import ChunkAttention
from moodcast.run import Run, Train

DATA = ("cremad",)
RUN = Run(
    method=ChunkAttention.Config(),
    labels=Labels(("angry", "happy", "neutral", "sad")),
    chunks=ChunkPlan(length_s=0.5, count=11),
    train=Train(epochs=20, batch_size=128, lr=1e-3, weight_decay=0.0, balance="class"),
)

if __name__ == "__main__":
    main(RUN, DATA)
