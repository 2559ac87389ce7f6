"""What the benchmarks share: corpora, options, processes, rows that are kept, and figures. Rows are JSON lines (moodcast.lines)."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from moodcast import corpora, metrics
from moodcast.manifest import Utterance

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"


def begin(main: Callable[[], None]) -> None:
    """A benchmark's main; what a user can cause ends it with one sentence."""
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def options_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the docstring of the benchmark as it stands."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def some(text: str) -> int:
    """A number of at least one, as an option takes it."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


# ---------------------------------------------------------------------------------------------------- data


def corpora_folder() -> Path:
    """Where the corpora lie: MOODCAST_CORPORA, or shared/corpora beside the repository."""
    return Path(os.environ.get("MOODCAST_CORPORA") or ROOT.parent / "shared" / "corpora")


def corpus_in(name: str, folder: Path | None = None) -> Path:
    """The folder of a corpus. Raises ValueError where it is absent."""
    path = (folder or corpora_folder()) / name
    if not path.is_dir():
        raise ValueError(f"{path.parent} holds no {name}; recordings are not part of this repository: MOODCAST_CORPORA=FOLDER says where")
    return path


def prepared(name: str) -> list[Utterance]:
    """The rows of a corpus."""
    return corpora.prepare(name, corpus_in(name))


# ---------------------------------------------------------------------------------------------------- rows


def command(script: str, words: Sequence[str] | None = None) -> str:
    """What made a row, as a person types it in the repository: by default as this process was called. Of paths the names alone."""
    given = [Path(word).name if "/" in word else word for word in sys.argv[1:]] if words is None else words
    return shlex.join(["python", f"benchmarks/{Path(script).name}", *given])


def refuse_others(out: Path, told: Iterable[str], ours: str) -> None:
    """Raises ValueError where a file holds rows of another recipe (`told`: what each row says of its own) than the one asked for."""
    if other := sorted(set(told) - {ours}):
        raise ValueError(f"{out} holds rows of another recipe ({other[0]}, asked for: {ours}); name another file with --out")


def in_processes(commands: Iterable[Sequence[str]], jobs: int, minutes: float = 0.0) -> tuple[int, int]:
    """Each command in a process of its own on one thread, so many at once, none begun after so many minutes (0: no limit).

    How many went well and how many failed.
    """
    stop = time.monotonic() + 60 * minutes if minutes else float("inf")

    def done(words: Sequence[str]) -> bool | None:
        if time.monotonic() > stop:
            return None
        return subprocess.run(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False).returncode == 0

    with ThreadPoolExecutor(jobs) as pool:
        ended = list(pool.map(done, commands))
    return ended.count(True), ended.count(False)


# ---------------------------------------------------------------------------------------------------- figures


def figure(name: str, value: str, goal: object = "-") -> None:
    """One of the last lines of a benchmark. A goal of "-" is none; for a difference to a baseline it is 0: better than that."""
    print(f"figure {name} {value} goal {goal}", flush=True)


def figures(found: Mapping[str, float], goal: object = "-", decimals: int = 1) -> None:
    """Several with one goal."""
    for name, value in found.items():
        figure(name, f"{value:.{decimals}f}", goal)


def percent(interval: metrics.Interval) -> list[float]:
    """Value, low and high as rows keep them."""
    return [round(100 * value, 2) for value in (interval.value, interval.low, interval.high)]


def signed(interval: metrics.Interval) -> str:
    """A difference in points."""
    return f"{100 * interval.value:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def mean_difference(rows: Mapping[tuple[Any, ...], float], others: Mapping[tuple[Any, ...], float]) -> tuple[float, int] | None:
    """The mean of what `rows` are above `others`, over the keys that both have, and how many those are; None where none are."""
    both = sorted(rows.keys() & others.keys(), key=str)
    return (sum(rows[key] - others[key] for key in both) / len(both), len(both)) if both else None


def tell_gains(title: str, rows: Iterable[dict[str, Any]], asked: set[tuple[str, str, int]], base: str) -> None:
    """The figures of what was asked for: how far each method is above the baseline, in the mean over the cells that both have."""
    scores: dict[str, dict[tuple[Any, ...], float]] = defaultdict(dict)
    for row in rows:
        if "uar" in row:
            scores[row["method"]][row["task"], row["seed"]] = row["uar"][0]
    names = list(dict.fromkeys(name for name in scores if name != base and any(method == name for _, method, _ in asked)))
    gains = {}
    for name in names:
        mine = {key: value for key, value in scores[name].items() if (key[0], name, key[1]) in asked}
        if found := mean_difference(mine, scores[base]):
            gains[f"{title}_{name}_minus_{base}_points"], cells = found
            print(f"{name}: {cells} of {len(mine)} cells have {base} beside them")
    if names and not gains:
        print(f"no cell has {base} beside it; run it, too, to know what a method is worth")
    figures(gains, 0)
