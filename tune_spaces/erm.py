"""Ranges for jobs/erm: ours, around its settings; each path is a field of the run."""

from __future__ import annotations

from ray import tune

SPACE = {
    "train.lr": tune.loguniform(3e-4, 3e-3),
    "train.weight_decay": tune.loguniform(1e-4, 1e-1),
    "method.dropout": tune.uniform(0.0, 0.4),
    "method.smoothing": tune.uniform(0.0, 0.2),
    "method.hide_bands": tune.randint(0, 17),
    "method.hide_s": tune.uniform(0.0, 0.5),
}
