"""Libraries that come with an extra: imported by whoever uses them, late, and named with their extra where they are missing."""

from __future__ import annotations

import importlib
import os
from typing import Any

QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}  # read by some when they are imported


def library(name: str, extra: str, need: str) -> Any:
    """The module `name`, which comes with moodcast[`extra`]; need: the beginning of a sentence that goes on with the library's name.

    Raises ValueError, which says how to get it, where it is not installed.
    """
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"{need} {name.partition('.')[0]}: pip install 'moodcast[{extra}]'") from error
