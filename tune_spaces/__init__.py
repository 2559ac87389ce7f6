"""What is worth searching: one file a job of the same name, by dotted paths of its run.

`SPACE` maps paths to domains of ray.tune. Where choices depend on each other it is a function, `space(trial)`: it asks an Optuna trial for
values under the names of fields and returns what is to be changed. What it asks under other names only steers it (`PATH.on` says whether
PATH is more than zero) and is no field of the run.
"""

from __future__ import annotations

from typing import Any


def zero_or_log(trial: Any, path: str, low: float, high: float) -> float:
    """Zero, or a number between low and high whose logarithm is uniform: a range of logarithms alone could never switch a loss off."""
    return float(trial.suggest_float(path, low, high, log=True)) if trial.suggest_categorical(f"{path}.on", [True, False]) else 0.0
