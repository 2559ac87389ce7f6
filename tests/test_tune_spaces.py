"""A search space names fields of its job, and whatever it draws is a valid run."""

from __future__ import annotations

import importlib
import random
from pathlib import Path

import numpy as np
import pytest

from moodcast import config

SPACES = sorted(p.stem for p in (Path(__file__).resolve().parents[1] / "tune_spaces").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", SPACES)
def test_whatever_a_space_draws_is_a_valid_run_of_its_job(name: str) -> None:
    space = importlib.import_module(f"tune_spaces.{name}").SPACE
    run = importlib.import_module(f"jobs.{name}").RUN
    assert set(space) <= set(config.leaves(run))
    random.seed(0)
    np.random.seed(0)
    drawn = [config.replace_at(run, {path: domain.sample() for path, domain in space.items()}) for _ in range(20)]
    assert len({str(one) for one in drawn}) > 1
    assert config.leaves(run).keys() == config.leaves(drawn[0]).keys()
