"""Ranges for jobs/dann: ours, around its settings; what they reach is judged on speakers of the source."""

from __future__ import annotations

from ray import tune

SPACE = {
    "train.lr": tune.loguniform(3e-4, 5e-3),
    "train.weight_decay": tune.loguniform(1e-4, 1e-1),
    "method.front.dropout": tune.uniform(0.0, 0.5),
    "method.weights.judge": tune.loguniform(0.1, 3.0),
    "method.reversal": tune.loguniform(0.03, 3.0),
    "method.hidden": tune.choice([64, 128, 256]),
}
