"""moodcast.config: dotted names, changes by name, text of a command line, and the way to JSON and back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from moodcast.chunks import ChunkPlan
from moodcast.config import from_dict, leaves, parse_overrides, replace_at, suggest, to_dict


@dataclass(frozen=True)
class Optimiser:
    """A branch of a branch."""

    name: Literal["adam", "sgd", "none"] = "adam"
    momentum: float | None = None
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        if self.name == "sgd" and self.momentum is None:
            raise ValueError("sgd needs a momentum; set optimiser.momentum")


@dataclass(frozen=True)
class Train:
    """A branch."""

    lr: float = 1e-3
    epochs: int = 20
    shuffle: bool = True
    optimiser: Optimiser = Optimiser()


@dataclass(frozen=True)
class Tree:
    """A small run."""

    title: str = "a"
    classes: tuple[str, ...] = ("angry", "sad")
    note: str | None = None
    scales: dict[str, float] = field(default_factory=dict)
    train: Train = Train()
    chunks: ChunkPlan = ChunkPlan(length_s=1.0, count=11)


def test_every_leaf_has_one_dotted_name_in_the_order_of_the_fields() -> None:
    assert list(leaves(Tree())) == [
        "title",
        "classes",
        "note",
        "scales",
        "train.lr",
        "train.epochs",
        "train.shuffle",
        "train.optimiser.name",
        "train.optimiser.momentum",
        "train.optimiser.betas",
        "chunks.length_s",
        "chunks.count",
        "chunks.hop_s",
        "chunks.rule",
    ]
    assert leaves(Tree())["train.lr"] == 1e-3


def test_a_change_by_name_leaves_everything_else_and_the_old_tree_alone() -> None:
    tree = Tree()
    changed = replace_at(tree, {"train.optimiser.betas": (0.5, 0.9), "title": "b"})
    assert changed == replace(tree, title="b", train=replace(tree.train, optimiser=Optimiser(betas=(0.5, 0.9))))
    assert tree == Tree()
    assert replace_at(tree, {}) == tree


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("train.lr", "1e-4", 1e-4),
        ("train.lr", "3", 3.0),
        ("train.epochs", "7", 7),
        ("train.shuffle", "false", False),
        ("train.shuffle", "no", False),
        ("title", "1e-4", "1e-4"),
        ("title", "a,b", "a,b"),
        ("title", "none", "none"),
        ("classes", "happy,sad, calm", ("happy", "sad", "calm")),
        ("classes", '["happy"]', ("happy",)),
        ("classes", "", ()),
        ("note", "none", None),
        ("note", "x", "x"),
        ("note", "2024", "2024"),
        ("note", "runs/1,2", "runs/1,2"),
        ("scales", '{"a": 1}', {"a": 1.0}),
        ("train.optimiser.momentum", "0.9", 0.9),
        ("train.optimiser.momentum", "none", None),
        ("train.optimiser.betas", "0.5,0.9", (0.5, 0.9)),
        ("train.optimiser.name", "adam", "adam"),
        ("train.optimiser.name", "none", "none"),
    ],
)
def test_text_of_a_command_line_is_read_as_the_type_of_its_field(name: str, text: str, value: Any) -> None:
    found = leaves(replace_at(Tree(), {name: text}))[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train.lr", "fast", r"train\.lr: 'fast' does not fit; wanted float"),
        ("train.epochs", "2.5", r"train\.epochs: .* does not fit; wanted int"),
        ("train.epochs", 1.5, r"train\.epochs: 1\.5 does not fit; wanted int"),
        ("train.epochs", None, r"train\.epochs: None does not fit"),
        ("train.shuffle", "perhaps", r"train\.shuffle: 'perhaps' does not fit; wanted bool"),
        ("train.optimiser.name", "adan", r"train\.optimiser\.name: 'adan' does not fit; .*'adam', 'sgd' or 'none'"),
        ("train.optimiser.betas", "0.5", r"train\.optimiser\.betas: "),
        ("classes", 3, r"classes: 3 does not fit"),
        (
            "chunks",
            "1.0",
            r"^chunks is a group of settings and takes no value of its own, got '1\.0'; its fields: chunks\.length_s, chunks\.count",
        ),
        ("train.optimiser", 5, r"^train\.optimiser is a group .*, got 5; its fields: train\.optimiser\.name"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_its_whole_name(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace_at(Tree(), {name: value})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("train.learning_rate", None),
        ("train.l", "train.lr"),
        ("train.epoch", "train.epochs"),
        ("trian.lr", "train.lr"),
        ("train.optimizer.name", "train.optimiser.name"),
        ("train.optimiser.beta", "train.optimiser.betas"),
        ("chunks.lenght_s", "chunks.length_s"),
        ("titel", "title"),
        ("title.x", "title"),
    ],
)
def test_a_typo_gets_a_suggestion_and_the_names_there_are(name: str, meant: str | None) -> None:
    with pytest.raises(ValueError, match=f"there is no field '{name}'") as error:
        replace_at(Tree(), {name: "1"})
    assert "Fields: " in str(error.value)
    if meant is not None:
        assert f"Did you mean '{meant}'?" in str(error.value)


def test_changes_are_validated_as_if_the_tree_were_built_anew() -> None:
    with pytest.raises(ValueError, match="sgd needs a momentum"):
        replace_at(Tree(), {"train.optimiser.name": "sgd"})


def test_fields_that_depend_on_each_other_change_together() -> None:
    with pytest.raises(ValueError, match="exactly one of count and hop_s"):
        replace_at(Tree(), {"chunks.hop_s": 0.5})
    assert replace_at(Tree(), {"chunks.hop_s": "0.5", "chunks.count": "none"}).chunks == ChunkPlan(length_s=1.0, hop_s=0.5)


def test_a_whole_branch_is_replaced_by_its_name_and_may_be_changed_in_the_same_breath() -> None:
    other = ChunkPlan(length_s=2.0, hop_s=1.0)
    assert replace_at(Tree(), {"chunks": other}).chunks == other
    assert replace_at(Tree(), {"chunks": other, "chunks.hop_s": 0.5}).chunks == ChunkPlan(length_s=2.0, hop_s=0.5)
    assert replace_at(Tree(), {"chunks": {"length_s": 2.0, "hop_s": 1.0}}).chunks == other


def test_overrides_are_words_with_an_equals_sign() -> None:
    assert parse_overrides(["train.lr=1e-4", "note=a=b", "title="]) == {"train.lr": "1e-4", "note": "a=b", "title": ""}
    for word in ("train.lr", "=3", "--lr"):
        with pytest.raises(ValueError, match="is not an override: write field=value"):
            parse_overrides([word])


def test_unknown_and_missing_fields_of_plain_data_are_refused_with_their_whole_name() -> None:
    assert from_dict(Tree, {}) == Tree()
    with pytest.raises(ValueError, match=r"there is no field 'train\.ephocs'\. Did you mean 'train\.epochs'\?"):
        from_dict(Tree, {"train": {"ephocs": 3}})

    @dataclass(frozen=True)
    class Strict:
        needed: int

    with pytest.raises(ValueError, match=r"Strict: .*needed"):
        from_dict(Strict, {})


def test_a_suggestion_is_made_only_where_something_is_near() -> None:
    assert suggest("emotoin", ["emotion", "path"]) == " Did you mean 'emotion'?"
    assert suggest("zzz", ["emotion", "path"]) == ""


numbers = st.floats(allow_nan=False, allow_infinity=False)
trees = st.builds(
    Tree,
    title=st.text(),
    classes=st.lists(st.text(), max_size=4).map(tuple),
    note=st.none() | st.text() | st.sampled_from(["none", "null", "0", "a,b", "{}"]),
    scales=st.dictionaries(st.text(), numbers, max_size=3),
    train=st.builds(
        Train,
        lr=numbers,
        epochs=st.integers(-(2**53), 2**53),
        shuffle=st.booleans(),
        optimiser=st.builds(
            Optimiser, name=st.sampled_from(["adam", "none"]), momentum=st.none() | numbers, betas=st.tuples(numbers, numbers)
        )
        | st.builds(Optimiser, name=st.just("sgd"), momentum=numbers),
    ),
    chunks=st.builds(ChunkPlan, length_s=st.floats(0.01, 60), count=st.integers(1, 100), rule=st.sampled_from(["even", "floor"])),
)


@given(trees)
@example(Tree(note="none"))
def test_any_tree_comes_back_from_json_as_it_was(tree: Tree) -> None:
    assert from_dict(Tree, json.loads(json.dumps(to_dict(tree)))) == tree


@given(trees, trees)
def test_the_leaves_of_one_tree_put_into_another_make_it_the_first(tree: Tree, other: Tree) -> None:
    assume((tree.note or "").lower() not in ("none", "null"))  # typed on a command line, these mean nothing
    assert replace_at(other, leaves(tree)) == tree


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=20))
def test_any_text_stays_itself_where_text_is_wanted(text: str) -> None:
    assert replace_at(Tree(), {"title": text}).title == text
