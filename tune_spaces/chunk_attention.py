"""Ranges for jobs/chunk_attention: the four aggregators, both encoders, how a stretch is cut, and training."""

from __future__ import annotations

from ray import tune

SPACE = {
    "method.encoder": tune.choice(["lstm", "cnn"]),
    "method.aggregation": tune.choice(["mean", "gated", "rnn_attention", "self_attention"]),
    "method.width": tune.choice([64, 128, 192]),
    "method.dropout": tune.uniform(0.0, 0.6),
    "chunks.length_s": tune.uniform(0.5, 1.0),  # with 11 chunks: the 5.5 s of the job and more
    "train.lr": tune.loguniform(1e-4, 3e-3),
    "train.batch_size": tune.choice([32, 64, 128]),
}
