"""Ranges for jobs/layer_anchor: ours, to be searched on a development pair; each path is a field of the run."""

from __future__ import annotations

from ray import tune

SPACE = {
    "train.lr": tune.loguniform(3e-4, 3e-3),
    "method.weights.anchor": tune.choice([1.0, 10.0, 100.0]),
    "method.group": tune.choice([2, 3, 4]),
    "method.width": tune.choice([32, 64, 128]),
    "method.warm": tune.uniform(0.1, 0.4),
}
