"""Settings within their ranges: open and closed ends, and every method that promises one refuses what lies outside."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from moodcast.config import replace_at
from moodcast.methods.committee import Committee
from moodcast.methods.erm import Erm
from moodcast.methods.layer_anchor import LayerAnchor
from moodcast.methods.mcc import Mcc
from moodcast.methods.mean_teacher import MeanTeacher
from moodcast.methods.vq_adapt import VqAdapt
from moodcast.methods.word_chunks import WordChunks
from moodcast.nn import ranges
from moodcast.run import Run


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("[0, 1)", (0, 0.5), (-0.1, 1, math.nan)),
        ("(0, inf)", (1e-9, 1e9), (0, -1, math.inf, math.nan)),
        ("[1, inf)", (1, 2), (0, 0.99)),
        ("[0, 1]", (0, 1), (1.01, -1)),
    ],
)
def test_ends_are_in_or_out_as_written(interval: str, inside: tuple[float, ...], outside: tuple[float, ...]) -> None:
    for value in inside:
        ranges.check(SimpleNamespace(share=value), interval, "share")
    for value in outside:
        with pytest.raises(ValueError, match=r"^method\.share must be in [\[(].*[\])], got "):
            ranges.check(SimpleNamespace(share=value), interval, "share")


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        (Erm.Config(), "smoothing", 1.0),
        (Erm.Config(), "width", 0),
        (Committee.Config(), "share", -2.0),
        (Committee.Config(), "networks", 0),
        (Mcc.Config(), "temperature", 0.0),
        (Mcc.Config(), "smoothing", 2.0),
        (Mcc.Config(), "front.layers", -1),
        (Mcc.Config(), "front.width", 0),
        (MeanTeacher.Config(), "share", 1.5),
        (MeanTeacher.Config(), "threshold", -0.1),
        (MeanTeacher.Config(), "rise", -0.1),
        (MeanTeacher.Config(), "smoothing", -1.0),
        (VqAdapt.Config(), "temperature", 0.0),
        (VqAdapt.Config(), "share", 1.5),
        (VqAdapt.Config(), "num_codes", 0),
        (VqAdapt.Config(num_codes=2, together=False), "num_codes", 1),
        (LayerAnchor.Config(), "group", 0),
        (LayerAnchor.Config(), "warm", 1.5),
        (WordChunks.Config(), "heads", 0),
    ],
)
def test_what_lies_outside_is_refused_by_its_whole_name(config: object, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"method\.{name} must be in .*, got {value}"):
        replace_at(Run(method=config), {f"method.{name}": value})
