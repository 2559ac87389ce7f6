"""Ranges for jobs/mean_teacher: ours, around its settings; what they reach is judged on speakers of the source."""

from __future__ import annotations

from ray import tune

SPACE = {
    "train.lr": tune.loguniform(3e-4, 5e-3),
    "train.weight_decay": tune.loguniform(1e-4, 1e-1),
    "method.front.dropout": tune.uniform(0.0, 0.5),
    "method.weights.taught": tune.loguniform(0.1, 3.0),
    "method.decay": tune.choice([0.9, 0.97, 0.99, 0.997]),
    "method.threshold": tune.uniform(0.5, 0.95),
    "method.share": tune.uniform(0.05, 0.5),
    "method.rise": tune.uniform(0.1, 0.6),
}
