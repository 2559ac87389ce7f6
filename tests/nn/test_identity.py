"""The name of a frozen part: the same for the same weights, code and settings, another for whatever changes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from moodcast.nn import frontends
from moodcast.nn import identity as named
from moodcast.nn.identity import identity


def test_weights_and_words_make_the_name_and_a_copy_has_the_same():
    torch.manual_seed(0)
    part, copy = nn.Linear(3, 2), nn.Linear(3, 2)
    copy.load_state_dict(part.state_dict())
    assert identity(part, "a") == identity(copy, "a")
    assert len({identity(part), identity(part, "a"), identity(part, "b"), identity(part, "a", "b"), identity(part, "ab")}) == 5
    with torch.no_grad():
        copy.bias[0] += 1e-6
    assert identity(part, "a") != identity(copy, "a")


def test_a_change_of_code_makes_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, names = tmp_path / "somebodys.py", set()
    for body in ("x", "x * 2"):
        path.write_text(f"from torch import nn\n\nclass Part(nn.Module):\n    def forward(self, x):\n        return {body}\n")
        spec = importlib.util.spec_from_file_location("somebodys", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "somebodys", module)
        spec.loader.exec_module(module)
        names |= {identity(module.Part()), identity(nn.Identity(), code=(module,))}
    assert len(names) == 4


def test_a_change_of_what_feeds_every_encoder_makes_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert frontends in named.FED_BY
    path, names = tmp_path / "frontends.py", set()
    for body in ("waves", "waves * 2"):
        path.write_text(f"def standardised(waves, lengths):\n    return {body}\n")
        spec = importlib.util.spec_from_file_location("frontends", path)
        monkeypatch.setattr(named, "FED_BY", (importlib.util.module_from_spec(spec),))
        names.add(identity(nn.Linear(1, 1, bias=False).requires_grad_(False).apply(lambda part: nn.init.zeros_(part.weight))))
    assert len(names) == 2
