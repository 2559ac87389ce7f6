"""Ranges for jobs/pretrained: a probe of an encoder that stays frozen, which is encoded once for all trials, or LoRA.

`method.tune=none` on the command line keeps the search to probes, `method.tune=lora` to adapters.
"""

from __future__ import annotations

from typing import Any


def space(trial: Any) -> dict[str, Any]:
    """What one trial changes; the rank of the adapters is asked for where there are some."""
    tune = trial.suggest_categorical("method.tune", ["none", "lora"])
    found: dict[str, Any] = {
        "method.tune": tune,
        "method.width": trial.suggest_categorical("method.width", [64, 128, 256, 512]),
        "method.dropout": trial.suggest_float("method.dropout", 0.0, 0.6),
        "method.smoothing": trial.suggest_float("method.smoothing", 0.0, 0.2),
        "train.lr": trial.suggest_float("train.lr", 1e-4, 3e-3, log=True),
        "train.weight_decay": trial.suggest_float("train.weight_decay", 1e-6, 1e-1, log=True),
        "train.batch_size": trial.suggest_categorical("train.batch_size", [16, 32, 64]),
    }
    if tune == "lora":
        found["method.lora_rank"] = trial.suggest_categorical("method.lora_rank", [4, 8, 16])
    return found
