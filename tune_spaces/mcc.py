"""Ranges for jobs/mcc: ours, around its settings; each path is a field of the run. What they reach is judged on the source's dev split."""

from __future__ import annotations

from ray import tune

SPACE = {
    "train.lr": tune.loguniform(3e-4, 5e-3),
    "train.weight_decay": tune.loguniform(1e-4, 1e-1),
    "method.front.dropout": tune.uniform(0.0, 0.5),
    "method.weights.confusion": tune.loguniform(0.1, 3.0),
    "method.temperature": tune.uniform(1.5, 4.0),
}
