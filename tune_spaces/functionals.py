"""Ranges for jobs/functionals: how strongly the logistic regression is held back, and whether classes weigh the same in it."""

from __future__ import annotations

from ray import tune

SPACE = {
    "method.strength": tune.loguniform(1e-3, 10.0),
    "method.balanced": tune.choice([True, False]),
}
