"""Ranges for jobs/multi_loss: losses, mixups, attention and training.

The weight of KL stays 1, because Adam sees ratios alone. What belongs to a loss or a mixup is asked for only where that is on.
"""

from __future__ import annotations

from typing import Any

from tune_spaces import zero_or_log

KINDS = ["none", "mixup", "length", "energy_hard", "energy", "manifold"]


def space(trial: Any) -> dict[str, Any]:
    """What one trial changes, by dotted paths; `trial` is Optuna's."""
    return {**losses(trial), **mixup(trial), **network(trial), **training(trial)}


def losses(trial: Any) -> dict[str, Any]:
    """Weights, which may be zero, and what shapes the losses that are on."""
    found: dict[str, Any] = {
        "method.weights.focal": zero_or_log(trial, "method.weights.focal", 1e-2, 3.0),
        "method.weights.centre": zero_or_log(trial, "method.weights.centre", 1e-5, 1e-1),
        "method.weights.contrast": zero_or_log(trial, "method.weights.contrast", 1e-3, 1.0),
    }
    if found["method.weights.focal"]:
        found["method.gamma"] = trial.suggest_float("method.gamma", 0.0, 5.0)
    if found["method.weights.centre"]:
        found["method.centre_lr_scale"] = trial.suggest_float("method.centre_lr_scale", 0.1, 100.0, log=True)
    if found["method.weights.contrast"]:
        found["method.temperature"] = trial.suggest_float("method.temperature", 0.03, 0.5, log=True)
    return found


def mixup(trial: Any) -> dict[str, Any]:
    """Which mixup, of how many utterances (0 is within reach), and its own settings."""
    kind = trial.suggest_categorical("method.mix.kind", KINDS)
    found: dict[str, Any] = {"method.mix.kind": kind}
    if kind != "none":
        found["method.mix.share"] = trial.suggest_float("method.mix.share", 0.0, 1.0, step=0.1)
    if kind in ("mixup", "manifold"):
        found["method.mix.alpha"] = trial.suggest_float("method.mix.alpha", 0.05, 2.0, log=True)
    if kind in ("energy", "energy_hard"):
        found["method.mix.snr_db"] = trial.suggest_float("method.mix.snr_db", -5.0, 10.0)
        found["method.mix.snr_spread_db"] = trial.suggest_float("method.mix.snr_spread_db", 1.0, 12.0)
        found["method.mix.longest_share"] = trial.suggest_float("method.mix.longest_share", 0.1, 0.5)
        found["method.mix.reference"] = trial.suggest_categorical("method.mix.reference", ["segment", "utterance"])
    return found


def network(trial: Any) -> dict[str, Any]:
    """The attention and the latent."""
    return {
        "method.heads": trial.suggest_categorical("method.heads", [0, 2, 4, 8]),
        "method.vectors": trial.suggest_categorical("method.vectors", [1, 2, 4, 8]),
        "method.broadcast": trial.suggest_categorical("method.broadcast", [True, False]),
        "method.latent": trial.suggest_categorical("method.latent", [32, 64, 128]),
    }


def training(trial: Any) -> dict[str, Any]:
    """The optimiser, and what else keeps the network from learning by heart."""
    return {
        "train.lr": trial.suggest_float("train.lr", 1e-4, 3e-3, log=True),
        "train.weight_decay": trial.suggest_float("train.weight_decay", 1e-6, 1e-1, log=True),
        "train.batch_size": trial.suggest_categorical("train.batch_size", [16, 32, 64, 128]),
        "method.dropout": trial.suggest_float("method.dropout", 0.0, 0.6),
        "method.smoothing": trial.suggest_float("method.smoothing", 0.0, 0.2),
        "method.hide_bands": trial.suggest_int("method.hide_bands", 0, 16),
        "method.hide_s": trial.suggest_float("method.hide_s", 0.0, 0.5),
    }
