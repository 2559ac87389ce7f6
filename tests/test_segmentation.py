"""The local segmentation: its powerset, its answers, its folder, and the job that trains it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from jobs import segmentation as job
from jobs.voiceprint import held_out
from moodcast import segmentation
from moodcast.manifest import Utterance
from moodcast.objectives import powerset
from moodcast.segmentation import Segmentation, Segmenter, Shape

RATE = 16_000
SMALL = Shape(window_s=2.0, filters=16, width=16, hidden=24, depth=1, dense=24, dropout=0.0)
HZ = {"ann": 200.0, "ben": 700.0, "cy": 2000.0}
Wave = NDArray[np.float32]


def network(shape: Shape = SMALL) -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(shape).eval()


class Tones:
    """What the job's simulator reads: everybody says a tone of their own, and is heard all the time."""

    def __call__(self, row: Utterance, rate: int) -> Wave:
        hz = HZ[row.path]
        return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(0.7 * rate)) / rate)).astype(np.float32)

    def find(self, row: Utterance, wave: Wave, rate: int) -> list[tuple[int, int]]:
        return [(0, len(wave))]


def people() -> list[tuple[float, dict[str, list[Utterance]]]]:
    return [(1.0, {name: [Utterance(id=f"{name}@1", path=name)] for name in HZ})]


def made(count: int, seed: tuple[int, ...] = (0,), **scene: Any) -> job.Windows:
    quiet = {"room_share": 0.0, "noise_share": 0.0, "line_share": 0.0, "hiss_db": (40.0, 40.0), "seconds": 4.0, "speakers": (1, 3)}
    run = job.Run(shape=SMALL, scene=job.replace(job.RUN.scene, **{**quiet, **scene}))
    return job.windows(people(), run, count, seed, Tones(), (), ())  # type: ignore[arg-type]


# ---- the network ----


@pytest.mark.parametrize(("speakers", "at_once"), [(3, 2), (2, 2), (4, 3), (1, 1)])
def test_the_powerset_is_that_of_pyannote_audio(speakers: int, at_once: int) -> None:
    from pyannote.audio.utils.powerset import Powerset

    assert torch.equal(segmentation.powerset(speakers, at_once), Powerset(speakers, at_once).mapping)


def test_each_frame_has_probabilities_of_the_sets_whatever_the_level() -> None:
    net, waves = network(), torch.randn(2, SMALL.samples)
    with torch.no_grad():
        found, loud = net(waves), net(300.0 * waves)
    assert found.shape == (2, SMALL.frames, 7)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(2, SMALL.frames))
    torch.testing.assert_close(found, loud, atol=1e-3, rtol=0)


def test_ten_seconds_are_answered_in_frames_of_17_ms() -> None:
    shape = Shape()
    with torch.no_grad():
        assert network(shape)(torch.zeros(1, 160_000)).shape == (1, 592, 7)
    assert (shape.frames, segmentation.STEP_S) == (592, 0.016875)


def test_a_frame_is_where_its_sound_is() -> None:
    """A click changes the answers on both sides of it alike, without a memory of what was and will be."""
    net, waves = network(replace(SMALL, hidden=1)), 0.01 * torch.randn(2, SMALL.samples)
    waves[1] = waves[0]
    waves[1, round(60.5 * segmentation.HOP)] += 1.0
    net.level, net.norms = torch.nn.Identity(), torch.nn.ModuleList(torch.nn.Identity() for _ in range(3))
    heard: list[torch.Tensor] = []
    net.recurrence.register_forward_hook(lambda _, given, found: heard.append(given[0]))
    with torch.no_grad():
        net(waves)
    changed = torch.nonzero((heard[0][0] != heard[0][1]).any(-1))[:, 0].tolist()
    assert 60 in changed
    assert changed == list(range(60 - len(changed) // 2, 61 + len(changed) // 2))


def test_windows_are_answered_alike_in_any_batch_and_end_in_silence() -> None:
    found, wave = Segmentation(network()), np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32)
    starts = [0, RATE, 2 * RATE, 4 * RATE]
    together, alone = found.activity(wave, starts, batch=3), [found.activity(wave, [start]) for start in starts]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)
    padded = np.concatenate([wave, np.zeros(RATE, dtype=np.float32)])
    np.testing.assert_allclose(found.activity(padded, [4 * RATE]), alone[3], atol=1e-6)
    assert found.activity(wave, []).shape == (0, SMALL.frames, 7)


def test_more_at_once_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="1 <= at_once <= speakers"):
        Shape(speakers=2, at_once=3)


# ---- weights of pyannote.audio ----


def checkpoint(path: Path, **more: Any) -> Any:
    """A small PyanNet with random weights, kept at `path` as pyannote.audio keeps its own."""
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.segmentation import PyanNet

    torch.manual_seed(1)
    theirs: Any = PyanNet(lstm={"hidden_size": 8, "num_layers": 2}, linear={"hidden_size": 12, "num_layers": 2})
    theirs.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=3.0,
        classes=["a", "b", "c", "d"],
        powerset_max_classes=2,
        permutation_invariant=True,
    )
    theirs.build()
    kept = {"state_dict": theirs.state_dict(), "hyper_parameters": dict(theirs.hparams), "pytorch-lightning_version": "2.6.6", **more}
    theirs.on_save_checkpoint(kept)
    torch.save(kept, path)
    return theirs.eval()


def test_weights_of_pyannote_audio_answer_here_as_there(tmp_path: Path) -> None:
    theirs = checkpoint(tmp_path / "pytorch_model.bin")
    ours = segmentation.published(tmp_path / "pytorch_model.bin").eval()
    assert ours.shape == Shape(window_s=3.0, speakers=4, hidden=8, depth=2, dense=12, dropout=0.0)
    before = (segmentation.SEEN - segmentation.HOP) // 2
    waves = torch.randn(2, ours.shape.samples)
    whole = torch.nn.functional.pad(
        waves, (before, segmentation.HOP * (ours.shape.frames - 1) + segmentation.SEEN - before - waves.shape[1])
    )
    with torch.no_grad():
        torch.testing.assert_close(ours(waves), theirs(whole[:, None]), atol=1e-5, rtol=1e-5)


class Planted:
    """What a checkpoint must not be able to do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    checkpoint(tmp_path / "evil.bin", more=Planted(tmp_path / "ran"))
    with pytest.raises(ValueError, match="evil.bin is no checkpoint of a PyanNet .*: Weights only load failed$"):
        segmentation.published(tmp_path / "evil.bin")
    assert not (tmp_path / "ran").exists()
    torch.save({"state_dict": {}}, tmp_path / "other.bin")
    (tmp_path / "text.bin").write_text("no weights")
    for name in ("other.bin", "text.bin", "none.bin"):
        with pytest.raises(ValueError, match=f"{name} is no checkpoint of a PyanNet"):
            segmentation.published(tmp_path / name)


# ---- the folder ----


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scores = {"der": 0.2, "missed": 0.1, "false_alarm": 0.05, "confusion": 0.05, "der_of_one_speaker": 0.4, "confusion_of_one_speaker": 0.3}
    about = {"corpora": ["toy"], "speakers": 3, "steps": 1, "windows": 4, "scores": scores}
    segmentation.save(network(), tmp_path / "made", about, job.card(network(), about))
    return tmp_path / "made"


def test_what_the_job_writes_is_read_back_and_answers_the_same(folder: Path) -> None:
    wave = np.random.default_rng(0).standard_normal(SMALL.samples).astype(np.float32)
    read = segmentation.load(folder)
    assert read.network.shape == SMALL
    np.testing.assert_allclose(read.activity(wave, [0]), Segmentation(network()).activity(wave, [0]), atol=2e-3)
    assert {value.dtype for value in load_file(folder / "weights.safetensors").values()} == {torch.float16}
    card = (folder / "README.md").read_text()
    assert "| diarization error rate | 20.0 | 40.0 |" in card
    assert "CREMA-D (ODbL)" in card


def test_the_shipped_card_is_what_the_job_writes_of_the_shipped_settings() -> None:
    shipped = segmentation.load()
    about = json.loads((segmentation.SHIPPED / "segmentation.json").read_text())
    assert (segmentation.SHIPPED / "README.md").read_text() == job.card(shipped.network, about)
    assert about["training"] == json.loads(json.dumps(asdict(job.RUN.train)))
    assert about["scene"] == json.loads(json.dumps(asdict(job.RUN.scene)))
    assert shipped.shape == job.RUN.shape


def test_a_folder_that_was_changed_or_holds_nothing_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no segmentation"):
        segmentation.load(tmp_path)
    about = json.loads((folder / "segmentation.json").read_text())
    for changed, words in (
        ({**about, "format": 1}, "not of format 2"),
        ({**about, "shape": {**about["shape"], "window_s": 3.0}}, "do not belong together"),
        ([], "not of format 2"),
    ):
        (folder / "segmentation.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=words):
            segmentation.load(folder)


# ---- the job ----


def test_the_loss_does_not_ask_which_speaker_is_which() -> None:
    sets = segmentation.powerset(3, 2)
    truth = torch.from_numpy(made(4)[1]).float()
    found = torch.randn(4, SMALL.frames, 7).log_softmax(-1)
    losses = [powerset.cross_entropy(found, truth[..., list(order)], sets).item() for order in itertools.permutations(range(3))]
    assert losses == pytest.approx([losses[0]] * 6)
    sure = (1e3 * (torch.nn.functional.one_hot((truth @ torch.tensor([1.0, 2.0, 4.0])).long(), 8))[..., [0, 1, 2, 4, 3, 5, 6]]).float()
    assert powerset.cross_entropy(sure.log_softmax(-1), truth, sets).item() == pytest.approx(0.0, abs=1e-6)


def test_errors_are_those_counted_frame_by_frame() -> None:
    sets = segmentation.powerset(2, 2)
    truth = torch.tensor([[[1, 0], [1, 0], [1, 1], [0, 0], [0, 1], [0, 1]]], dtype=torch.float32)
    said = torch.tensor([[1, 2, 1, 1, 2, 0]])  # sets: nobody, first, second, both
    found = torch.nn.functional.one_hot(said, 4).float().mul(20).log_softmax(-1)
    assert job.errors(found, truth, sets).tolist() == [2.0, 1.0, 1.0, 6.0]


def test_what_cannot_be_said_is_cut_to_those_heard_most() -> None:
    active = np.zeros((SMALL.frames, 4), dtype=np.float32)
    active[:30, 2], active[5:25, 0], active[10:20, 3], active[40:41, 1] = 1, 1, 1, 1
    truth = job.told(active, SMALL)
    assert truth.sum(0).tolist() == [30, 20, 0]
    assert truth.sum(1).max() == 2
    assert truth[40].sum() == 0


def test_who_meets_comes_from_one_corpus_or_one_dialogue() -> None:
    rows = [
        Utterance(id="c1", path="c1", corpus="cremad", speaker="1001"),
        Utterance(id="c2", path="c2", corpus="cremad", speaker="1002"),
        Utterance(id="r1", path="r1", corpus="resd", speaker="dlg01_a", group="dlg01"),
        Utterance(id="r2", path="r2", corpus="resd", speaker="dlg02_a", group="dlg02"),
    ]
    found = job.casts(rows, (1.0, 1.1))
    assert [share for share, _ in found] == [0.5, 0.25, 0.25]
    assert [sorted(cast) for _, cast in found] == [
        ["cremad/1001@1", "cremad/1001@1.1", "cremad/1002@1", "cremad/1002@1.1"],
        ["resd/dlg01_a@1", "resd/dlg01_a@1.1"],
        ["resd/dlg02_a@1", "resd/dlg02_a@1.1"],
    ]


def test_the_speakers_of_scores_are_kept_from_training_and_of_the_benchmark_from_scores() -> None:
    def row(corpus: str, speaker: str, group: str | None = None) -> Utterance:
        return Utterance(id="x", path="x", corpus=corpus, speaker=speaker, group=group)

    for one, held, tuned in (
        (row("cremad", "1080"), False, False),
        (row("cremad", "1086"), True, True),
        (row("cremad", "1087"), True, False),
        (row("resd", "dlg30_a", "dlg30"), False, False),
        (row("resd", "dlg40_a", "dlg40"), True, True),
        (row("resd", "dlg41_a", "dlg41"), True, False),
    ):
        assert held_out(one) == held
        assert (held_out(one) and job.tuning(one)) == tuned
        kept, scored = job.divided([one, row("emodb", "03"), row("cremad", "1084")])
        assert (one in kept, one in scored) == (not held, tuned)


def test_of_other_corpora_every_tenth_speaker_is_kept_from_training() -> None:
    rows = [Utterance(id=f"{k}", path="x", corpus="own", speaker=f"{k:02d}") for k in range(20)]
    kept, held = job.divided(rows)
    assert [row.speaker for row in held] == ["00", "10"]
    assert len(kept) == 18
    with pytest.raises(ValueError, match="wanted utterances of two speakers or more, got 1 of 1"):
        job.divided(rows[:1])


CALM = job.Training(batch_size=8, pool=32, passes=5, lr=1e-2)


def make(count: int, seed: Any) -> job.Windows:
    return made(count, tuple(seed), overlap_share=0.0, word_share=0.0, speakers=(2, 2))


def test_training_learns_who_speaks_when() -> None:
    learner, said = network(), []
    assert job.train(learner, make, job.replace(CALM, steps=80, pool=8, passes=1000), say=said.append) == 80
    scores = job.score(learner, make(8, (0, 1, 0)))  # the very windows: eight of them are learned by heart
    assert scores["confusion_of_one_speaker"] > 0.2
    assert scores["der"] < 0.1
    assert "step 80 of 80" in said[-1]


def test_a_stopped_run_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    settings = job.replace(CALM, steps=10, pool=16, passes=2)
    whole, first, second = (network(replace(SMALL, depth=2, dropout=0.3)) for _ in range(3))
    job.train(whole, make, settings, say=str)
    stops = iter([False] * 5 + [True])  # after five steps, inside a pool
    assert job.train(first, make, settings, tmp_path / "state.pt", until=lambda: next(stops), say=str) == 5
    assert job.train(second, make, settings, tmp_path / "state.pt", say=str) == 10
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, atol=1e-6, rtol=1e-5)


def test_a_killed_run_goes_on_from_what_it_told_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "TELL", 2)

    def killed(line: str) -> None:
        if line.startswith("step 4 "):
            raise KeyboardInterrupt

    settings = replace(CALM, steps=6, pool=16, passes=2)
    with pytest.raises(KeyboardInterrupt):
        job.train(network(), make, settings, tmp_path / "state.pt", say=killed)
    said: list[str] = []
    assert job.train(network(), make, settings, tmp_path / "state.pt", say=said.append) == 6
    assert [line.split(":")[0] for line in said] == ["step 6 of 6"]
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_only_recordings_whose_terms_let_weights_be_shipped_are_heard(tmp_path: Path, write_wav: Callable[..., Path]) -> None:
    for name in ("free", "research"):
        write_wav(f"{name}.wav", np.full(RATE, 0.5 if name == "free" else 0.1, dtype=np.float32))
    (tmp_path / "manifest.csv").write_text("path,source\nfree.wav,ESC-10\nresearch.wav,NOISEX-92\n")
    (only,) = job.recordings(tmp_path, RATE, 0.5)
    assert len(only) == RATE // 2
    assert only.max() == pytest.approx(0.5, abs=1e-3)
    assert job.recordings(None, RATE, 1.0) == []


@pytest.mark.corpora
def test_the_voice_is_found_in_real_utterances_at_any_speed(corpora: Path, tmp_path: Path) -> None:
    from moodcast import corpora as readers

    rows = [row for row in readers.read("emodb", corpora / "emodb")][:6]
    sounds = job.Sounds(RATE)
    sounds.listen(rows, tmp_path / "voice.json", at_once=4)
    for row in rows:
        slow, fast = (job.replace(row, id=f"{row.id}@{speed}") for speed in ("1", "1.25"))
        wave, quick = sounds(slow, RATE), sounds(fast, RATE)
        assert len(quick) == pytest.approx(len(wave) / 1.25, abs=3)
        spans = sounds.find(slow, wave, RATE)
        assert 0.6 < sum(b - a for a, b in spans) / len(wave) <= 1.0
        assert [a for a, _ in sounds.find(fast, quick, RATE)] == pytest.approx([a / 1.25 for a, _ in spans], abs=1)
    again = job.Sounds(RATE)
    again.listen(rows, tmp_path / "voice.json")
    assert again.voice == sounds.voice


def test_what_would_throw_the_run_away_or_give_no_batch_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing would be kept; say where with --state FILE"):
        job.command([tmp_path / "none.csv"], tmp_path / "out", minutes=1.0)
    with pytest.raises(ValueError, match="a pool of 8 windows gives no batch of 32"):
        job.command([tmp_path / "none.csv"], tmp_path / "out", changes=["train.pool=8"])
