"""A probe of Whisper's encoder on CREMA-D: the encoder frozen, its layers weighted, two dense layers trained. What the encoder gives is
computed once and kept.

The encoder is fetched from the Hugging Face hub the first time (about 290 MB); another hub id, or a folder, goes in its place. By LoRA, and
fine-tuned layer by layer from the top:

    python -m jobs.pretrained cremad.parquet
    python -m jobs.pretrained cremad.parquet method.encoder=folder/of/an/encoder
    python -m jobs.pretrained cremad.parquet method.tune=lora train.lr=5e-4
    python -m jobs.pretrained cremad.parquet method.tune=full method.thaw_per_epoch=2
"""

from __future__ import annotations

from moodcast.chunks import ChunkPlan
from moodcast.cluster.job import main
from moodcast.labels import Labels
from moodcast.methods.pretrained import Pretrained
from moodcast.run import Run, Train

DATA = ("cremad",)
RUN = Run(
    method=Pretrained.Config(encoder="openai/whisper-base"),
    labels=Labels(("angry", "happy", "neutral", "sad")),
    chunks=ChunkPlan(length_s=6.0, hop_s=6.0),
    train=Train(epochs=20, batch_size=32, lr=1e-3, weight_decay=1e-2, balance="class"),
)

if __name__ == "__main__":
    main(RUN, DATA)
