"""Ranges for jobs/default_bundle: how much the moments say, what is random in training, and how much the sound is damaged."""

from __future__ import annotations

from ray import tune

SPACE = {
    "method.share": tune.uniform(0.0, 2.0),
    "method.hidden": tune.choice([64, 128, 256]),
    "method.forget": tune.uniform(0.2, 0.7),
    "method.dropout": tune.uniform(0.0, 0.5),
    "method.hide_bands": tune.randint(0, 17),
    "method.hide_s": tune.uniform(0.0, 0.5),
    "method.smoothing": tune.uniform(0.0, 0.2),
    "method.damage.noise_share": tune.uniform(0.0, 0.6),
    "method.damage.echo_share": tune.uniform(0.0, 0.6),
    "train.lr": tune.loguniform(5e-4, 5e-3),
    "train.weight_decay": tune.loguniform(1e-4, 1e-1),
}
