"""Ranges for jobs/vq_adapt: ours, to be searched on a development pair; each path is a field of the run."""

from __future__ import annotations

from ray import tune

SPACE = {
    "train.lr": tune.loguniform(3e-4, 3e-3),
    "method.num_codes": tune.choice([16, 64, 256]),
    "method.temperature": tune.loguniform(0.03, 0.3),
    "method.weights.overall": tune.choice([0.1, 0.5, 1.0]),
    "method.weights.by_class": tune.choice([0.1, 0.5, 1.0]),
    "method.weights.confusion": tune.choice([0.1, 0.5, 1.0]),
    "method.weights.information": tune.choice([0.1, 0.5, 1.0]),
    "method.threshold": tune.uniform(0.7, 0.95),
}
