"""The feature cache in training: computed once by all workers together, shared by runs and folds, never where it would be wrong."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from moodcast import bundle
from moodcast.augment import Augment, Crop, Gain, Hide
from moodcast.batch import Batch, Prediction
from moodcast.chunks import ChunkPlan
from moodcast.cluster import folder as files
from moodcast.cluster.data import CachedStretches, padded
from moodcast.cluster.features import check_method, keep_features, kept
from moodcast.cluster.train import fit
from moodcast.cluster.work import sides
from moodcast.config import replace_at
from moodcast.manifest import Utterance
from moodcast.methods.fisher import Fisher
from moodcast.methods.functionals import Functionals
from moodcast.methods.pretrained import Pretrained
from moodcast.nn.pretrained import small
from moodcast.order import Indices, epoch_batches
from moodcast.run import Audio, Run, build
from moodcast.step import Trainer, weights_digest
from tests.cluster.tiny import CLASSES, RATE, Tiny, tiny_run


class Counted(Tiny):
    """Tiny with a frozen front, which notes in a file each stretch that it is asked to encode."""

    @dataclass(frozen=True)
    class Config(Tiny.Config):
        notes: str = ""
        version: str = "1"

    def frozen(self, batch: Batch) -> Tensor:
        if batch.target is not None:  # the signal that a bundle is probed with has none
            with Path(self.config.notes).open("ab") as file:  # one write, appended whole, from any process
                file.write(f"{os.getpid()}\n".encode() * batch.size)
        return self.spectra(batch)[:, None]

    def frozen_name(self) -> str:
        return (self.config.version * 64)[:64]

    def forward(self, batch: Batch) -> Prediction:
        given = self.frozen(batch) if batch.frozen is None else batch.frozen
        return Prediction(emotion=self.net(given[:, 0]).log_softmax(-1))


def counted_run(folder: Path, **method: Any) -> Run:
    base = tiny_run(epochs=2, batch_size=12)
    return replace(base, method=Counted.Config(notes=str(folder / "notes"), **method))


def encodings(folder: Path) -> list[str]:
    path = folder / "notes"
    return path.read_text().splitlines() if path.is_file() else []


def opened(corpus: Sequence[Utterance], run: Run, cache: Path) -> list[CachedStretches]:
    return [CachedStretches(side, run, cache) for side in sides(corpus, run)]


def test_every_stretch_is_encoded_once_and_a_second_run_encodes_none(corpus: list[Utterance], cache: Path, tmp_path: Path) -> None:
    run = counted_run(tmp_path)
    data, method = opened(corpus, run, cache), build(run, ("tests",))
    done = keep_features(method, data, kept(run, method), tmp_path)
    total = sum(len(side) for side in data)
    assert done == total == len(encodings(tmp_path)) > 150
    trainer = Trainer(method, run.train, data[0])
    trainer.epoch(0)
    trainer.epoch(1)
    assert len(encodings(tmp_path)) == total
    again = opened(corpus, run, cache)
    assert keep_features(build(run, ("tests",)), again, kept(run, method), tmp_path) == 0


def test_training_on_kept_features_is_training_on_the_sound(corpus: list[Utterance], cache: Path, tmp_path: Path) -> None:
    run, found = counted_run(tmp_path), []
    for use in (True, False):
        data, method = opened(corpus, run, cache), build(run, ("tests",))
        if use:
            keep_features(method, data, kept(run, method), tmp_path)
        trainer = Trainer(method, run.train, data[0])
        trainer.epoch(0)
        found.append(torch.cat([p.detach().flatten() for p in method.parameters()]))
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)


def test_folds_and_other_heads_share_what_was_encoded_and_other_encoders_plans_and_rates_do_not(
    corpus: list[Utterance], cache: Path, tmp_path: Path
) -> None:
    run = counted_run(tmp_path)

    def encoded(rows: Sequence[Utterance], changed: Run) -> int:
        method = build(changed, ("tests",))
        return keep_features(method, opened(rows, changed, cache), kept(changed, method), tmp_path)

    total = encoded(corpus, run)
    swapped = [replace(row, split="train" if row.split == "dev" else "dev", id=row.id + "x") for row in corpus][::-1]
    assert encoded(swapped, run) == 0
    assert encoded(corpus, replace_at(run, {"method.width": 4, "train.seed": 7})) == 0
    assert encoded(corpus, replace_at(run, {"method.version": "2"})) == total
    assert encoded(corpus, replace(run, chunks=ChunkPlan(length_s=0.15, hop_s=0.15))) > 0


def test_a_recording_that_stands_twice_is_encoded_once(corpus: list[Utterance], cache: Path, tmp_path: Path) -> None:
    run = counted_run(tmp_path)
    rows = [row for row in corpus if row.split == "train"][:10]
    twice = [*rows, *(replace(row, id=row.id + "again") for row in rows)]
    data, method = [CachedStretches(twice, run, cache)], build(run, ("tests",))
    assert keep_features(method, data, kept(run, method), tmp_path) == len(data[0]) // 2


def test_nothing_is_kept_where_it_would_be_wrong(corpus: list[Utterance], tmp_path: Path) -> None:
    run = counted_run(tmp_path)
    assert kept(run, build(run, ("tests",)))
    loud = replace(run, augment=Augment(gain=Gain(0.5)))
    assert kept(loud, build(loud, ("tests",))) == ""
    with pytest.raises(ValueError, match=r"train\.cache_features=on would train on features of recordings as they are"):
        replace_at(loud, {"train.cache_features": "on"})
    off = replace_at(run, {"train.cache_features": "off"})
    assert kept(off, build(off, ("tests",))) == ""
    whole = replace_at(tiny_run(), {"train.cache_features": "on"})
    with pytest.raises(ValueError, match=r"nothing of Tiny stays frozen with these settings"):
        kept(whole, build(whole, ("tests",)))
    tuned = Run(method=Pretrained.Config(tune="lora"))
    assert kept(tuned, build(tuned)) == ""


def test_augmentation_that_nothing_would_hear_is_refused() -> None:
    loud = Augment(gain=Gain(share=1.0))
    for once in (Fisher.Config(), Functionals.Config(classifier="logistic")):
        run = Run(method=once, augment=loud)
        with pytest.raises(ValueError, match=r"is fitted once, on the recordings as they are: leave augment"):
            kept(run, build(run))
        assert kept(replace(run, augment=Augment()), build(run)) == build(run).frozen_name()
    assert (
        kept(Run(method=Functionals.Config(classifier="mlp"), augment=loud), build(Run(method=Functionals.Config(classifier="mlp")))) == ""
    )


def test_augmented_training_hears_another_sound_each_epoch_and_dev_never_does(corpus: list[Utterance], cache: Path) -> None:
    run = replace(tiny_run(), augment=Augment(gain=Gain(1.0)))
    data = CachedStretches(corpus, run, cache)
    plain = CachedStretches(corpus, tiny_run(), cache)
    plan = [np.arange(8), np.arange(8, 16)]
    first, again, later, looked = (list(data.batches(plan, epoch)) for epoch in (0, 0, 1, None))
    for a, b, c, d, wanted in zip(first, again, later, looked, plain.batches(plan, 0), strict=True):
        assert torch.equal(a.chunks, b.chunks)
        assert not torch.equal(a.chunks, c.chunks)
        assert torch.equal(d.chunks, wanted.chunks)
        assert not torch.equal(a.chunks, wanted.chunks)
        assert torch.equal(a.lengths, wanted.lengths)
    shares = [torch.cat([batch.chunks for batch in data.batches([plan[0][rank::2]], 0)]) for rank in (0, 1)]
    assert torch.equal(torch.stack(shares, 1).flatten(0, 1), first[0].chunks)  # two workers hear what one does


def test_what_an_epoch_draws_twice_it_hears_in_two_ways(corpus: list[Utterance], cache: Path) -> None:
    data = CachedStretches(corpus, replace(tiny_run(), augment=Augment(gain=Gain(1.0))), cache)
    often = np.where(np.arange(len(data)) < 3, 1.0, 0.0)  # three stretches, again and again

    def heard(plan: Sequence[Indices]) -> list[bytes]:
        batches = data.batches(plan, 0)
        return [chunks[lengths > 0].numpy().tobytes() for b in batches for chunks, lengths in zip(b.chunks, b.lengths, strict=True)]

    plan = epoch_batches(len(data), 16, 0, 0, weights=often)
    whole, drawn = heard(plan), np.concatenate(list(plan))
    assert len(set(whole)) == len(drawn), "no draw sounds like another"
    first = [whole[int(np.flatnonzero(drawn == i)[0])] for i in range(3)]
    assert first == heard([np.arange(3)]), "the first draw is that of an epoch that draws each once"
    shares = [heard(epoch_batches(len(data), 16, 0, 0, 2, rank, often)) for rank in (0, 1)]
    assert [sound for pair in zip(*shares, strict=True) for sound in pair] == whole, "two workers hear what one does"


def test_words_are_timed_in_the_piece_that_they_are_said_in_and_unknown_where_a_crop_moves_them(
    write_wav: Callable[..., Path], tmp_path: Path
) -> None:
    hum = np.full(round(1.2 * RATE), 0.1, np.float32)  # a stretch from 0.2 s on, twice as long as the plan covers
    said = (("one", 0.3, 0.4), ("two", 0.9, 1.0), ("three", 1.05, 1.15))
    row = Utterance(id="a", path=str(write_wav("a.wav", hum, RATE)), start_s=0.2, emotion=CLASSES[0], words=said)
    run = replace(tiny_run(), chunks=ChunkPlan(length_s=0.25, count=2))
    (batch,) = CachedStretches([row], run, tmp_path).batches([np.arange(2)])
    torch.testing.assert_close(batch.words, torch.tensor([[[0.1, 0.2], [0.0, 0.0]], [[0.2, 0.3], [0.35, 0.45]]]))
    cropped = replace(run, augment=Augment(crop=Crop(share=1.0, seconds=0.1)))
    (batch,) = CachedStretches([row], cropped, tmp_path).batches([np.arange(2)], 0)
    assert batch.words is None


def test_a_resumed_run_with_augmentation_equals_an_undisturbed_one(corpus: list[Utterance], cache: Path) -> None:
    run = replace(tiny_run(epochs=3, batch_size=16), augment=Augment(gain=Gain(1.0), hide=Hide(0.5)))
    data, other = (CachedStretches(corpus, run, cache) for _ in range(2))
    whole, broken, resumed = (Trainer(build(run, ("tests",)), run.train, side) for side in (data, data, other))
    for epoch in range(3):
        whole.epoch(epoch)
    broken.epoch(0)
    broken.epoch(1)
    resumed.load_state(broken.state())
    resumed.epoch(2)
    assert weights_digest(resumed.method) == weights_digest(whole.method)
    plain = Trainer(build(run, ("tests",)), run.train, CachedStretches(corpus, replace(run, augment=Augment()), cache))
    for epoch in range(3):
        plain.epoch(epoch)
    assert weights_digest(plain.method) != weights_digest(whole.method)


def test_arrays_of_different_lengths_are_padded_with_zeros() -> None:
    found = padded([np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)])
    assert found.tolist() == [[[1, 1, 1], [1, 1, 1]], [[1, 1, 1], [0, 0, 0]]]


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_two_workers_encode_everything_once_between_them(
    corpus: list[Utterance], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a path of the run that is relative begins where training was started, not in the workers' own folders."""
    from moodcast.cluster.train import fit

    monkeypatch.chdir(tmp_path)
    run = counted_run(Path())
    total = sum(len(side) for side in opened(corpus, run, cache))
    fit(run, corpus, tmp_path, name="one", workers=2, cache=tmp_path / "cache", progress=False)
    noted = encodings(tmp_path)
    assert len(noted) == total  # over two epochs, with training and dev passes
    shares = Counter(line.split()[0] for line in noted)
    assert len(shares) == 2
    assert abs(np.diff(list(shares.values()))) <= 2  # train and dev are shared out one by one


WHISPER = Run(Pretrained.Config(encoder="random/whisper"), chunks=ChunkPlan(length_s=40.0, hop_s=5.0))
ONCE = Run(Functionals.Config(), augment=Augment(gain=Gain(share=0.5)))


@pytest.mark.parametrize(
    ("run", "wanted"),
    [
        (WHISPER, r"takes chunks of at most 30 s, got chunks.length_s=40"),
        (replace_at(WHISPER, {"chunks.length_s": 5.0, "audio.rate": 8000}), "set audio.rate=16000"),
        (ONCE, "Functionals is fitted once, on the recordings as they are"),
        (replace_at(Run(Functionals.Config()), {"train.precision": "bfloat16"}), "for encoders that train, and this Functionals has none"),
        (replace_at(WHISPER, {"chunks.length_s": 5.0, "method.tune": "lora", "train.cache_features": "on"}), "nothing to keep"),
    ],
)
def test_what_a_worker_would_refuse_is_refused_before_one_starts(run: Run, wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted):
        check_method(run)


def test_a_method_that_torch_cannot_build_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"tests\.cluster\.tiny:Tiny cannot be built with these settings: .*negative dimension -1"):
        check_method(tiny_run(width=-1))


def test_settings_that_fit_are_let_through_and_no_weight_is_read_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pretrained, "frozen_name", lambda self: pytest.fail("a digest of all weights"))
    check_method(replace_at(WHISPER, {"chunks.length_s": 5.0}))


def test_a_run_that_goes_on_needs_no_encoder_but_that_of_its_checkpoint(corpus: list[Utterance], tmp_path: Path, cache: Path) -> None:
    for name, text in small("hubert").items():
        (tmp_path / name).write_text(text)
    transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(tmp_path)).save_pretrained(tmp_path)
    run = replace(tiny_run(epochs=1), method=Pretrained.Config(encoder=str(tmp_path)), audio=Audio(rate=16_000))
    rows = [replace(row, path=str(Path(row.path).absolute())) for row in corpus]
    (folder := tmp_path / "begun").mkdir()
    files.describe(folder, run, rows, 1)
    files.append_line(folder / files.METRICS, {"epoch": 0, "dev_uar": 0.5})
    for place in (files.checkpoint_path(folder, 0), folder / files.BUNDLE):
        bundle.save(place, build(run), run)
    (tmp_path / "model.safetensors").unlink()
    assert fit(run, corpus, tmp_path, resume=folder, cache=cache, progress=False).bundle == folder / files.BUNDLE
    with pytest.raises(ValueError, match="has no model.safetensors"):
        fit(run, corpus, tmp_path, cache=cache, progress=False)
