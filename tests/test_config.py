"""Dotted names over frozen dataclasses: every leaf has one, values are read as declared, a typo gets a suggestion."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest

from moodcast import config


@dataclass(frozen=True)
class Inner:
    rate: int = 16_000
    gain: float = 1.0
    kind: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        if self.rate < 1:
            raise ValueError(f"rate must be positive, got {self.rate}")


@dataclass(frozen=True)
class Pair:
    """Exactly one of the two, so that changing them one after the other would fail."""

    count: int | None = 3
    hop: float | None = None

    def __post_init__(self) -> None:
        if (self.count is None) == (self.hop is None):
            raise ValueError("exactly one of count and hop")


@dataclass(frozen=True)
class Tree:
    inner: Inner = Inner()
    pair: Pair = Pair()
    names: tuple[str, ...] = ("x", "y")
    title: str = ""
    table: dict[str, float] = field(default_factory=dict)


def test_every_leaf_has_one_dotted_name_in_the_order_of_the_fields() -> None:
    assert list(config.leaves(Tree())) == ["inner.rate", "inner.gain", "inner.kind", "pair.count", "pair.hop", "names", "title", "table"]
    assert config.leaves(Tree())["inner.rate"] == 16_000


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("inner.gain", "1e-4", 1e-4),
        ("inner.rate", "8000", 8000),
        ("inner.kind", "b", "b"),
        ("names", "p,q", ("p", "q")),
        ("names", '["p"]', ("p",)),
        ("title", "3", "3"),
        ("title", "a,b", "a,b"),
        ("table", '{"k": 2}', {"k": 2.0}),
    ],
)
def test_text_is_read_as_the_field_declares(name: str, text: str, value: object) -> None:
    changed = config.leaves(config.replace_at(Tree(), {name: text}))[name]
    assert changed == value
    assert type(changed) is type(value)


def test_fields_that_depend_on_each_other_change_at_once() -> None:
    changed = config.replace_at(Tree(), {"pair.count": "none", "pair.hop": "0.5"})
    assert changed.pair == Pair(None, 0.5)


def test_a_whole_branch_may_be_replaced() -> None:
    assert config.replace_at(Tree(), {"inner": Inner(8000)}).inner.rate == 8000
    assert config.replace_at(Tree(), {"inner": {"rate": 8000}}).inner.rate == 8000


def test_the_tree_that_came_is_left_as_it_was() -> None:
    tree = Tree()
    config.replace_at(tree, {"inner.rate": 1})
    assert tree == Tree()


@pytest.mark.parametrize(("name", "near"), [("inner.rat", "inner.rate"), ("iner.gain", "inner.gain"), ("titel", "title")])
def test_a_name_that_does_not_exist_is_answered_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"no field '{name}'. Did you mean '{near}'"):
        config.replace_at(Tree(), {name: 1})


def test_a_leaf_has_nothing_below_it() -> None:
    with pytest.raises(ValueError, match=r"no field 'title\.x'"):
        config.replace_at(Tree(), {"title.x": 1})


@pytest.mark.parametrize(("name", "value"), [("inner.rate", "many"), ("inner.rate", 1.5), ("inner.kind", "c"), ("inner.gain", None)])
def test_a_value_that_does_not_fit_is_refused_by_its_dotted_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        config.replace_at(Tree(), {name: value})


def test_changes_are_validated_as_if_the_tree_were_built_anew() -> None:
    with pytest.raises(ValueError, match="rate must be positive"):
        config.replace_at(Tree(), {"inner.rate": 0})


def test_a_tree_survives_the_way_through_json() -> None:
    tree = config.replace_at(Tree(), {"names": "p,q", "inner.kind": "b", "table": {"k": 1.5}})
    assert config.from_dict(Tree, json.loads(json.dumps(config.to_dict(tree)))) == tree


def test_unknown_plain_data_is_refused_with_its_whole_name() -> None:
    with pytest.raises(ValueError, match=r"inner\.rates.*Did you mean 'inner\.rate'"):
        config.from_dict(Tree, {"inner": {"rates": 1}})


def test_overrides_are_words_with_an_equals_sign() -> None:
    assert config.parse_overrides(["a.b=1", "c=x=y"]) == {"a.b": "1", "c": "x=y"}
    for word in ("a.b", "=1"):
        with pytest.raises(ValueError, match="field=value"):
            config.parse_overrides([word])
