"""Who speaks when in hours of audio: memory and speed of the embedded diarizer from 10 minutes to 3 hours.

    python benchmarks/long_audio.py

The recording is conversations of CREMA-D's held-out speakers put together by moodcast.simulate, repeated at other levels until it is long
enough, and read from a file mapped into memory, as `moodcast analyze` does. Memory is what this process holds of its own (RssAnon: pages
of the mapped file are the kernel's to take back), at its highest while a recording is diarized; the process is warm when it is first
looked at. The baseline of memory is the same process at 10 minutes, that of speed is real time. One thread.

The audio is not part of this repository: MOODCAST_CORPORA, or shared/corpora beside the repository, holds it.

Figures: memory_growth_percent from the short recording to the long one, goal 20 at most; times_real_time of the long one, by processor
time, goal 10. Each is the median of --rounds.

Takes: 10 minutes on one core for three rounds; `--minutes 1 5 --rounds 1` one minute.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from benchmarks.shared import begin, corpora_folder, corpus_in, figure, options_of, some
from moodcast import corpora, simulate
from moodcast.diarize import Diarizer
from moodcast.embedded import default_diarizer
from moodcast.manifest import Utterance
from moodcast.simulate import Scene, Wave

RATE = 16_000
SPEAKERS = ("1087", "1088", "1089", "1090")
GOAL_PERCENT, GOAL_SPEED = 20.0, 10.0


def conversations(folder: Path, minutes: float) -> Wave:
    """Some minutes of four people, [N]."""
    rows: dict[str, list[Utterance]] = {}
    for row in corpora.read("cremad", folder):
        if row.speaker in SPEAKERS:
            rows.setdefault(str(row.speaker), []).append(row)
    scene = Scene(seconds=60 * minutes, speakers=(4, 4), room_share=1.0, t60_s=(0.2, 0.4), loudness_dbfs=(-25.0, -25.0))
    return simulate.conversation(rows, scene, 0).wave


@contextmanager
def recording(piece: Wave, minutes: float) -> Iterator[Wave]:
    """`minutes` of the piece again and again at other levels, in a temporary file mapped into memory."""
    draw, left = np.random.default_rng(0), round(60 * minutes * RATE)
    with tempfile.TemporaryFile() as file:
        while left > 0:
            part = (piece[:left] * 10 ** (draw.uniform(-6.0, 6.0) / 20)).astype(np.float32)
            file.write(part.data)
            left -= len(part)
        file.flush()
        yield np.memmap(file, dtype=np.float32, mode="r")


def held_mb() -> float:
    """Memory of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise OSError("this system does not tell RssAnon; run on Linux")


@contextmanager
def highest() -> Iterator[list[float]]:
    """The most memory held while inside, looked at every 20 ms; the list holds it at the end."""
    found, over = [held_mb()], threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            found[0] = max(found[0], held_mb())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def measured(diarizer: Diarizer, piece: Wave, minutes: float) -> tuple[float, float]:
    """Highest memory in MB, and how many times faster than real time."""
    with recording(piece, minutes) as wave, highest() as memory:
        started = time.process_time()
        turns = diarizer.diarize(wave, RATE)
        spent = time.process_time() - started
    speakers = len({turn.speaker for turn in turns})
    speed = 60 * minutes / spent
    print(
        f"{minutes:6g} min: {memory[0]:7.0f} MB, {speed:5.0f} times faster than real time, {len(turns)} turns, {speakers} speakers",
        flush=True,
    )
    return memory[0], speed


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--minutes", nargs=2, type=float, default=(10.0, 180.0), metavar=("SHORT", "LONG"))
    parser.add_argument("--corpora", type=Path, default=corpora_folder(), help="the folder that holds them")
    parser.add_argument("--rounds", type=some, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    piece, diarizer = conversations(corpus_in("cremad", asked.corpora), 5.0), default_diarizer()
    measured(diarizer, piece, asked.minutes[0])  # warm: libraries loaded, buffers grown
    growth, speeds = [], []
    for _ in range(asked.rounds):
        (short, _), (long, speed) = (measured(diarizer, piece, minutes) for minutes in asked.minutes)
        growth.append(100 * (long - short) / short)
        speeds.append(speed)
    figure("memory_growth_percent", f"{statistics.median(growth):.1f}", f"<= {GOAL_PERCENT:g}")
    figure("times_real_time", f"{statistics.median(speeds):.0f}", f">= {GOAL_SPEED:g}")


if __name__ == "__main__":
    begin(main)
