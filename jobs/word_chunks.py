"""Audio and text together, four emotions: pieces of audio as many as words, on the corpora that come with what was said.

moodcast prepare resd FOLDER && python -m jobs.word_chunks resd.parquet
"""

from __future__ import annotations

from moodcast.chunks import ChunkPlan
from moodcast.cluster.job import main
from moodcast.labels import Labels
from moodcast.methods.word_chunks import WordChunks
from moodcast.run import Run, Train

DATA = ("resd",)
RUN = Run(
    method=WordChunks.Config(),
    labels=Labels(("angry", "happy", "neutral", "sad")),
    chunks=ChunkPlan(length_s=12.0, hop_s=12.0),
    train=Train(epochs=40, batch_size=32, lr=1e-3, weight_decay=1e-2, balance="class"),
)

if __name__ == "__main__":
    main(RUN, DATA)
