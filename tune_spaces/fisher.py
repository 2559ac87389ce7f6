"""Ranges for jobs/fisher: how finely the mixture describes speech, and how strongly the regression is held back."""

from __future__ import annotations

from ray import tune

SPACE = {
    "method.gaussians": tune.choice([16, 32, 64]),
    "method.strength": tune.loguniform(0.1, 10.0),
    "method.components": tune.choice([96, 192, 384]),
}
