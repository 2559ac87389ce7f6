"""Ranges for jobs/target_norm: ours, around its settings; what they reach is judged on speakers of the source."""

from __future__ import annotations

from ray import tune

SPACE = {
    "train.lr": tune.loguniform(3e-4, 5e-3),
    "train.weight_decay": tune.loguniform(1e-4, 1e-1),
    "method.front.dropout": tune.uniform(0.0, 0.5),
    "method.front.width": tune.choice([32, 64, 128]),
    "method.front.layers": tune.choice([0, 1, 2]),
    "method.smoothing": tune.uniform(0.0, 0.2),
}
