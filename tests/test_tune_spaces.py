"""A search space names fields of its job, and whatever it draws is a valid run."""

from __future__ import annotations

import importlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from moodcast import config
from moodcast.method import method_name
from tune_spaces import multi_loss

ROOT = Path(__file__).resolve().parents[1]
SPACES = sorted(p.stem for p in (ROOT / "tune_spaces").glob("[a-z]*.py"))

asked = pytest.mark.parametrize("name", [name for name in SPACES if hasattr(importlib.import_module(f"tune_spaces.{name}"), "space")])


def trials(count: int, seed: int = 0) -> list[optuna.Trial]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [study.ask() for _ in range(count)]


def drawn(name: str, count: int) -> list[dict[str, Any]]:
    """What a space changes, drawn `count` times, whichever of the two forms it has."""
    module = importlib.import_module(f"tune_spaces.{name}")
    assert hasattr(module, "SPACE") != hasattr(module, "space"), f"tune_spaces/{name}.py wants either SPACE or space(trial)"
    if hasattr(module, "SPACE"):
        random.seed(0)
        np.random.seed(0)
        return [{path: domain.sample() for path, domain in module.SPACE.items()} for _ in range(count)]
    return [module.space(trial) for trial in trials(count)]


def test_every_job_and_every_method_has_a_space() -> None:
    jobs = [path.stem for path in sorted((ROOT / "jobs").glob("[a-z]*.py"))]
    runs = {name: getattr(importlib.import_module(f"jobs.{name}"), "RUN", None) for name in jobs}
    trained = {name: method_name(run.method) for name, run in runs.items() if hasattr(run, "method")}
    assert [name for name in trained if name not in SPACES] == []
    methods = {f"moodcast.methods.{path.stem}" for path in (ROOT / "platform" / "moodcast" / "methods").glob("[a-z]*.py")}
    assert methods == {name.partition(":")[0] for name in trained.values()}, "a method without a job has no space, either"


@pytest.mark.parametrize("name", SPACES)
def test_whatever_a_space_draws_is_a_valid_run_of_its_job(name: str) -> None:
    run = importlib.import_module(f"jobs.{name}").RUN
    made = []
    for changes in drawn(name, 20):
        assert set(changes) <= set(config.leaves(run))
        made.append(config.replace_at(run, changes))
    assert len({str(one) for one in made}) > 1
    assert config.leaves(run).keys() == config.leaves(made[0]).keys()


@asked
def test_a_space_returns_all_it_asked_for_under_the_name_of_a_field(name: str) -> None:
    run, space = importlib.import_module(f"jobs.{name}").RUN, importlib.import_module(f"tune_spaces.{name}").space
    for trial in trials(20):
        changes = space(trial)
        fields = {path: value for path, value in trial.params.items() if path in config.leaves(run)}
        assert {path: value for path, value in changes.items() if path in fields} == fields
        assert all(path.removesuffix(".on") in changes for path in trial.params)


@asked
@pytest.mark.filterwarnings("error:.*out of the range")
def test_the_settings_of_the_job_are_within_its_space(name: str) -> None:
    """So that a sweep can try them first."""
    run, space = importlib.import_module(f"jobs.{name}").RUN, importlib.import_module(f"tune_spaces.{name}").space
    known = config.leaves(run)
    given = {**known, **{f"{path}.on": bool(value) for path, value in known.items()}}
    changes = space(optuna.trial.FixedTrial(given))
    assert changes == {path: known[path] for path in changes}


@pytest.mark.parametrize("name", [name for name in SPACES if hasattr(importlib.import_module(f"tune_spaces.{name}"), "SPACE")])
def test_the_settings_of_the_job_are_within_a_space_of_domains(name: str) -> None:
    known = config.leaves(importlib.import_module(f"jobs.{name}").RUN)
    for path, domain in importlib.import_module(f"tune_spaces.{name}").SPACE.items():
        assert domain.is_valid(known[path]), f"{path}={known[path]} lies outside of {domain.domain_str}"


def test_every_loss_and_the_mixup_of_multi_loss_can_be_off_and_then_nothing_of_theirs_is_asked() -> None:
    seen = {"focal": set(), "centre": set(), "contrast": set()}
    for changes in drawn("multi_loss", 60):
        for name, own in (("focal", "method.gamma"), ("centre", "method.centre_lr_scale"), ("contrast", "method.temperature")):
            on = changes[f"method.weights.{name}"] > 0
            seen[name].add(on)
            assert (own in changes) == on
        kind = changes["method.mix.kind"]
        assert ("method.mix.share" in changes) == (kind != "none")
        assert ("method.mix.alpha" in changes) == (kind in ("mixup", "manifold"))
        assert ("method.mix.snr_db" in changes) == (kind in ("energy", "energy_hard"))
    assert all(found == {True, False} for found in seen.values())
    assert {changes["method.mix.kind"] for changes in drawn("multi_loss", 60)} == set(multi_loss.KINDS)
