"""Emotions look different on a light and on a dark page, to every kind of colour vision, and every class has a colour."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from moodcast import page

# Machado, Oliveira, Fernandes: A physiologically-based model for simulation of color vision deficiency, 2009, severity 1.
VISIONS = {
    "usual": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    "tritanopia": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
}


def lab_under(matrix: NDArray[np.float64], colour: str) -> NDArray[np.float64]:
    """CIELAB (D65) of an sRGB colour seen through a matrix on linear RGB."""
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(matrix @ linear, 0, 1)
    to_xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
    xyz = to_xyz @ seen / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize(("theme", "paper"), [(0, "#ffffff"), (1, "#1c1a20")])
def test_emotions_look_different_to_every_kind_of_colour_vision(vision: str, theme: int, paper: str) -> None:
    seen = {name: lab_under(VISIONS[vision], pair[theme]) for name, pair in page.COLOURS.items()}
    ground = lab_under(VISIONS[vision], paper)
    common = {"angry", "happy", "neutral", "sad", "fear", "disgust", "enthusiasm"}
    for a, b in itertools.combinations(seen, 2):
        apart = float(np.linalg.norm(seen[a] - seen[b]))
        assert apart > (20 if {a, b} <= common else 12), f"{a} and {b} are {apart:.1f} apart"
    for name in common:
        assert float(np.linalg.norm(seen[name] - ground)) > 30, f"{name} is lost on the page"


def test_classes_of_other_corpora_get_colours_of_their_own() -> None:
    classes = ("angry", *(f"mood{i}" for i in range(14)))
    colours = page.colours_of(classes)
    assert colours["angry"] == page.COLOURS["angry"]
    assert len(set(colours.values())) == len(classes)


def test_colours_beyond_those_of_named_classes_are_like_none_of_them() -> None:
    colours = page.colours_of((*page.COLOURS, "excited", "contempt", "confusion", "embarrassed"))
    for theme in (0, 1):
        seen = {name: lab_under(VISIONS["usual"], pair[theme]) for name, pair in colours.items()}
        for a, b in itertools.combinations(seen, 2):
            apart = float(np.linalg.norm(seen[a] - seen[b]))
            assert apart > (25 if {a, b} - set(page.COLOURS) else 12), f"{a} and {b} are {apart:.1f} apart"
