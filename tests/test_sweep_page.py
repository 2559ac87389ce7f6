"""The page of a sweep: everything inside, names that others chose cannot break out, every trial has its place, and it fits a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moodcast import sweep_page as pages
from tests.page.opened import axis_error

HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">'


def made(rival: bool = True, trials: int = 24) -> dict[str, Any]:
    """What a sweep of a few fields could have come to."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(trials):
        on = bool(rng.random() < 0.6) or number == 0
        changes: dict[str, Any] = {
            "train.lr": float(10 ** rng.uniform(-4, -2)),
            "method.mix.kind": ["none", "energy", HOSTILE][number % 3],
            "method.weights.focal": float(10 ** rng.uniform(-2, 0)) if on else 0.0,
            "method.heads": int(rng.choice([0, 2, 4])),
        }
        if on:
            changes["method.gamma"] = float(rng.uniform(0, 5))
        epochs = 12 if number < 2 or number % 3 == 0 else 4
        curve = [[e, float(0.3 + 0.3 * (1 - np.exp(-e / 4)) + 0.05 * rng.random()), 1.0] for e in range(1, epochs + 1)]
        state = "finished" if epochs == 12 else "stopped"
        row = {
            "number": number,
            "origin": "searched" if number else "published",
            "parent": None,
            "state": state,
            "error": "",
            "seconds": 9.0,
        }
        rows.append({**row, "value": curve[-1][1], "spread": 0.02, "changes": changes, "epochs": curve})
    rows[5] |= {"state": "failed", "error": HOSTILE, "epochs": [], "value": None, "spread": None}
    arms = [{"name": "winner", "what": "trial 3", "uar": [0.6, 0.5, 0.7], "seeds": [0.58, 0.62], "spread": 0.02}]
    arms.append({"name": "published", "what": "the job", "uar": [0.55, 0.45, 0.65], "seeds": [0.54, 0.56], "spread": 0.01})
    differences = [{"minus": "published", "uar": [0.05, 0.01, 0.09]}]
    if rival:
        arms.append({"name": "rival", "what": f"with {HOSTILE}", "uar": [0.57, 0.47, 0.67], "seeds": [0.57, 0.57], "spread": 0.0})
        differences.append({"minus": "rival", "uar": [0.03, -0.02, 0.08]})
    gap = {"inner": [0.7, 0.6, 0.8], "inner_mean": 0.69, "test": [0.6, 0.5, 0.7], "gap": [0.1, 0.02, 0.2]}
    settings = {"space": HOSTILE, "searcher": "optuna", "scheduler": "asha", "trials": trials, "rows": 100, "speakers": 8, "folds": 3}
    return {
        "sweep": {**settings, "epochs": 12, "command": f"moodcast tune {HOSTILE}"},
        "run": {"train": {"lr": 1e-3}, "method": {"mix": {"kind": "energy"}, "heads": 4, "gamma": 2.0, "weights": {"focal": 0.5}}},
        "folder": HOSTILE,
        "winner": 3,
        "test": {
            "utterances": 80,
            "speakers": 6,
            "seeds": [1000, 1001],
            "arms": arms,
            "differences": differences,
            "baselines": [
                {"name": "majority", "what": "always sad", "uar": [0.25, 0.25, 0.25], "above": [0.35, 0.3, 0.4]},
                {"name": "plain statistics", "what": "regression", "uar": [0.5, 0.4, 0.6], "above": [0.1, -0.01, 0.2]},
            ],
        },
        "optimism": [{"arm": "winner", **gap}, {"arm": "published", **gap}],
        "rival": {"folder": HOSTILE, "trials": trials, "epochs_trained": [100, 90], "inner": 0.6} if rival else None,
        "common_epoch": 4,
        "importance": [
            {"name": "train.lr", "share": 0.6, "spread": 0.05, "trials": 23, "always": True},
            {"name": "method.weights.focal.on", "share": 0.2, "spread": 0.05, "trials": 14, "always": False},
        ],
        "trials": rows,
        "schedule": [{"until_epoch": 6, "changes": {"train.lr": 1e-3}}],
        "notes": [f"a note {HOSTILE}"],
    }


def test_the_verdict_says_better_worse_or_not_certain() -> None:
    lines = pages.verdict(made())
    assert "the winner is better than the published settings by +5.0 [+1.0, +9.0]" in lines[0]
    assert "the difference on unseen speakers is not certain: +3.0 [-2.0, +8.0]" in lines[1]
    assert "too hopeful by +10.0 [+2.0, +20.0]" in lines[2]
    assert lines[3].endswith("+10.0 [-1.0, +20.0] points, which is not certain.")
    lost = made(rival=False)
    lost["test"]["differences"][0]["uar"] = [-0.05, -0.09, -0.01]
    assert "is worse than the published settings" in pages.verdict(lost)[0]
    assert not any("too narrow" in line for line in lines)
    lost["test"]["speakers"] = 4
    assert pages.verdict(lost)[-1].startswith("Only 4 speakers answer for this")


def test_every_value_has_a_place_on_its_axis_and_zero_stands_apart() -> None:
    axis = pages.axis_of("a", [0.0, 1e-3, 1e-2, 1.0])
    assert (axis.kind, axis.has_off) == ("log", True)
    places = [axis.place(value) for value in (0.0, 1e-3, 1e-2, 1.0)]
    assert places[0] == 0.0
    assert places[1] == pytest.approx(0.1)
    assert places[2] == pytest.approx(0.4)
    assert places[3] == 1.0
    assert axis.place(None) is None
    choice = pages.axis_of("b", [True, False, True])
    assert choice.choices == ("off", "on")
    assert choice.place(False) == 0.25
    assert pages.axis_of("c", [0.5, 0.5, 0.6]).kind == "linear"


def test_a_few_whole_numbers_are_choices_in_their_order_and_long_names_stand_in_two_rows() -> None:
    axis = pages.axis_of("batch", [128, 16, 32, 16])
    assert (axis.kind, axis.choices) == ("choice", ("16", "32", "128"))
    assert axis.place(32) == 0.5
    assert pages.axis_of("bands", list(range(9))).kind == "linear"
    assert pages.axis_of("rate", [1.0, 2.0]).kind == "linear"
    kinds = pages.axis_of("kind", ["none", "energy_hard", "manifold", "length"])
    assert (pages.slice_of(axis, [], (0, 1))["rows"], pages.slice_of(kinds, [], (0, 1))["rows"]) == (1, 2)


def test_lists_are_choices() -> None:
    axis = pages.axis_of("channels", [[64, 128], [32, 64], [64, 128]])
    assert (axis.kind, axis.choices) == ("choice", ("[32, 64]", "[64, 128]"))
    assert axis.place([64, 128]) == 0.75


def test_what_is_long_unfolds() -> None:
    found = made()
    assert "<details" not in pages.render(found)
    for trial in found["trials"]:
        trial["changes"] |= {f"method.x{i}": trial["number"] * i for i in range(1, 12)}
    page = pages.render(found)
    assert "fields that mattered less</summary>" in page
    assert f"<summary>{len(found['trials'][0]['changes'])} fields</summary>" in page


def test_a_page_loads_nothing_and_names_cannot_break_out() -> None:
    page = pages.render(made())
    assert "http" not in page.replace("http-equiv", "")
    assert "<img" not in page
    assert page.count("<script") == 2
    assert "default-src 'none'" in page


def test_the_command_that_trains_the_winner_names_a_target_where_the_method_hears_one_and_one_seed_is_one() -> None:
    found = made()
    told = pages.render(found)
    assert "/winner.json MANIFEST\n" in told
    assert "2 fresh seeds<" in told
    found["sweep"]["target_rows"] = 16
    found["test"]["seeds"] = [1000]
    told = pages.render(found)
    assert "/winner.json MANIFEST --target TARGET\n" in told
    assert "1 fresh seed<" in told


def test_every_trial_is_drawn_in_every_picture_that_it_has_a_place_in() -> None:
    page = pages.render(made())
    assert page.count("<polyline") == 23, "the failed one has no curve"
    assert page.count("<path") == 23
    assert page.count("<tr data-t=") == 24
    assert "not asked in" in page
    assert "No rival sweep is beside it" not in page
    assert "No rival sweep is beside it" in pages.render(made(rival=False))


def test_members_of_a_population_are_joined_to_those_whose_weights_they_took_and_the_page_says_whom_it_compares() -> None:
    found = made(trials=12)
    for trial in found["trials"]:
        trial["epochs"] = trial["epochs"][:4]
    parent, child = found["trials"][2], found["trials"][7]
    child |= {"parent": 2, "epochs": [[epoch, 0.5, 1.0] for epoch in (5, 6)]}
    lines = {line["trial"]["number"]: line["points"].split() for line in pages.curves(found, found["trials"])["lines"]}
    assert len(lines[7]) == 3
    assert lines[7][0] == lines[2][-1]
    assert len(lines[2]) == len(parent["epochs"])
    page = pages.render(found)
    assert page.count("it is the first generation alone") == 3
    assert "those that end early were stopped" not in page
    assert "finished after epoch 6;" in pages.told(child | {"state": "finished"})
    assert "first generation" not in pages.render(made())
    assert "which is not that schedule" in page, "winner.json holds the last settings alone"
    assert "which is not that schedule" not in pages.render(made() | {"schedule": []})


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1100])
def test_the_page_opens_fits_and_lights_one_trial_everywhere(browser: Any, tmp_path: Path, width: int) -> None:
    path = pages.write(made(), tmp_path / "deep" / "report.html")
    tab = browser.new_page(viewport={"width": width, "height": 800})
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: said.append(request.url) if not request.url.startswith(path.as_uri()) else None)
    tab.goto(path.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("window.hacked") is None
    assert axis_error(tab, "#optimism", 0, 100) < 0.01
    tab.locator("tr[data-t='7']").hover()
    lit = tab.evaluate("[...document.querySelectorAll('.now')].map((part) => part.tagName.toLowerCase())")
    assert {"tr", "path", "polyline", "circle"} <= set(lit)
    assert tab.evaluate("[...document.querySelectorAll('.now')].every((part) => part.dataset.t === '7')")
    assert tab.locator("#told").inner_text().startswith("trial 7: ")
    tab.locator("h1").hover()
    assert tab.locator(".now").count() == 0
    assert said == []
    tab.close()
