"""Settings within the ranges that their docstrings promise."""

from __future__ import annotations


def check(settings: object, interval: str, *names: str, group: str = "method.") -> None:
    """Raise ValueError where one of the fields `names` lies outside an interval such as "[0, 1)" or "(0, inf)".

    group: what the dotted names of these fields begin with.

    >>> from moodcast.nn.mixup import Mix
    >>> check(Mix(), "[0, 1]", "share")
    """
    low, high = (float(end) for end in interval[1:-1].split(","))
    for name in names:
        value = getattr(settings, name)
        if not (low <= value <= high) or (value == low and interval[0] == "(") or (value == high and interval[-1] == ")"):
            raise ValueError(f"{group}{name} must be in {interval}, got {value}")
