"""Ranges for jobs/shot: ours, around its settings.

shot hears no labels at all, so a sweep of moodcast has nothing to judge it by and refuses it; these ranges are for a pair of corpora that
somebody keeps for development.
"""

from __future__ import annotations

from ray import tune

SPACE = {
    "train.lr": tune.loguniform(1e-4, 3e-3),
    "train.epochs": tune.choice([5, 15, 30]),
    "train.batch_size": tune.choice([32, 64, 128]),
    "method.weights.information": tune.loguniform(0.1, 3.0),
    "method.weights.pseudo": tune.loguniform(0.03, 3.0),
}
