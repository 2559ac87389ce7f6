"""Dotted names over frozen dataclasses: every leaf of a run has one name, and a typo answers "did you mean".

The tree is made of frozen dataclasses; a leaf is any field that is not a dataclass. Values are validated by pydantic, so the same
rules hold for a dictionary read from a bundle, a change made by a sweep, and text typed on a command line.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

T = TypeVar("T")


def leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Every leaf of a tree of dataclasses by its dotted name, in the order of the fields.

    >>> from moodcast.chunks import ChunkPlan
    >>> leaves(ChunkPlan(length_s=1.0, count=11))["count"]
    11
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(tree):
        value = getattr(tree, field.name)
        name = prefix + field.name
        if _is_branch(value):
            found.update(leaves(value, name + "."))
        else:
            found[name] = value
    return found


def replace_at(tree: T, changes: Mapping[str, Any]) -> T:
    """A copy of `tree` with the leaves (or whole branches) named in `changes` replaced and everything validated again.

    A whole branch is named by its own dotted name. Text is read as the type that the field declares, so "1e-4" is fine for a float.
    Changes of one branch are made together, so that fields that depend on each other may change at once.

    Raises ValueError for a name that does not exist (with the nearest one that does) or a value that does not fit.
    """
    changed: T = _replace(tree, dict(changes), prefix="")
    return changed


def parse_overrides(words: Iterable[str]) -> dict[str, str]:
    """`["train.lr=1e-4"]` -> `{"train.lr": "1e-4"}`. Raises ValueError for a word without "="."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"'{word}' is not an override: write field=value, for example train.lr=1e-4")
        found[name.strip()] = value.strip()
    return found


def to_dict(tree: Any) -> dict[str, Any]:
    """The tree as plain dictionaries, lists, numbers and text, ready for JSON."""
    out: dict[str, Any] = {}
    for field in dataclasses.fields(tree):
        value = getattr(tree, field.name)
        out[field.name] = to_dict(value) if _is_branch(value) else _plain(value)
    return out


def from_dict(cls: type[T], data: Mapping[str, Any], prefix: str = "") -> T:
    """Build the dataclass `cls` from plain data; what is missing takes its default, what is unknown raises ValueError."""
    hints = _hints(cls)
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name not in hints:
            raise ValueError(_unknown(prefix + name, [prefix + known for known in hints]))
        values[name] = _read(hints[name], value, prefix + name, typed=False)
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{prefix or cls.__name__}: {error}") from error


def suggest(name: str, known: Iterable[str]) -> str:
    """ " Did you mean 'x'?" or an empty text: the one place that words a suggestion."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


def _replace(tree: Any, changes: dict[str, Any], prefix: str) -> Any:
    hints = _hints(type(tree))
    here: dict[str, Any] = {}
    below: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        head, dot, rest = name.partition(".")
        if head not in hints or (dot and not _is_branch(getattr(tree, head))):
            names = list(leaves(tree, prefix))
            raise ValueError(_unknown(prefix + name, names))
        if dot:
            below.setdefault(head, {})[rest] = value
        else:
            kind = type(getattr(tree, head)) if hints[head] is Any and _is_branch(getattr(tree, head)) else hints[head]
            here[head] = value if _is_branch(value) else _read(kind, value, prefix + name, typed=True)
    for head, inner in below.items():
        here[head] = _replace(here.get(head, getattr(tree, head)), inner, prefix + head + ".")
    return dataclasses.replace(tree, **here)


def _read(kind: Any, value: Any, name: str, typed: bool) -> Any:
    """A value as the type its field declares; `typed`: text may have been typed on a command line, where everything is text."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if isinstance(value, kind):
            return value
        if not isinstance(value, Mapping):
            fields = ", ".join(f"{name}.{field}" for field in _hints(kind))
            raise ValueError(f"{name} is a group of settings and takes no value of its own, got {value!r}; its fields: {fields}")
        return from_dict(kind, value, name + ".")
    if typed and isinstance(value, str) and kind not in (str, Any) and value not in _choices(kind):
        value = _from_text(value, keep=_may_be_text(kind), many=_is_tuple(kind))
    try:
        return TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ValueError(f"{name}: {value!r} does not fit; wanted {_name_of(kind)} ({reason})") from None


def _from_text(text: str, keep: bool, many: bool) -> Any:
    """Text of a command line: "none" is None; with `keep` the rest is itself; else JSON where it is JSON, and `a,b` is a list.

    many: a list is wanted, so that `a` is a list of one and nothing a list of none.
    """
    if many and not text:
        return []
    if text.lower() in ("none", "null"):
        return None
    if keep:
        return text
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = [part.strip() for part in text.split(",")] if "," in text else text
    return [found] if many and not isinstance(found, list) else found


def _choices(kind: Any) -> tuple[Any, ...]:
    """The values of a Literal, of which "none" may be one."""
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()


def _is_tuple(kind: Any) -> bool:
    """Whether a field is a tuple of any length."""
    return typing.get_origin(kind) is tuple and typing.get_args(kind)[-1:] == (...,)


def _may_be_text(kind: Any) -> bool:
    """Whether a field is text or something else, such as `str | None`."""
    return typing.get_origin(kind) in (types.UnionType, typing.Union) and str in typing.get_args(kind)


def _hints(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def _is_branch(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _name_of(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind)) if not typing.get_args(kind) else str(kind).replace("typing.", "")


def _unknown(name: str, known: list[str]) -> str:
    return f"there is no field '{name}'.{suggest(name, known)} Fields: {', '.join(known)}"
