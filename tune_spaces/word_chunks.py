"""Ranges for jobs/word_chunks: how audio is aligned with words, what training leaves out, and training."""

from __future__ import annotations

from ray import tune

SPACE = {
    "method.align": tune.choice(["random", "fixed", "centred"]),
    "method.piece_s": tune.uniform(0.2, 1.0),
    "method.width": tune.choice([32, 64, 128]),
    "method.layers": tune.choice([1, 2, 3]),
    "method.cross_layers": tune.choice([1, 2]),
    "method.dropout": tune.uniform(0.0, 0.5),
    "method.drop_text": tune.uniform(0.0, 0.6),
    "method.drop_audio": tune.uniform(0.0, 0.4),
    "method.smoothing": tune.uniform(0.0, 0.2),
    "train.lr": tune.loguniform(1e-4, 3e-3),
    "train.weight_decay": tune.loguniform(1e-6, 1e-1),
}
