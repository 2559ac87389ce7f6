"""Pretrained: what trains under which setting, gradual unfreezing, a bundle that needs nothing else, features that are kept."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch.autograd.graph import saved_tensors_hooks

from moodcast import bundle
from moodcast.batch import Batch, collate
from moodcast.chunks import ChunkPlan
from moodcast.methods.pretrained import Pretrained
from moodcast.nn.pretrained import open_encoder
from moodcast.run import Run, Train, build, run_from_dict, run_to_dict
from moodcast.step import Trainer, weights_digest

RATE = 16_000
PLAN = ChunkPlan(length_s=1.0, hop_s=0.5)
LAYERS = 2  # of the random controls


def batch_of(seconds: tuple[float, ...] = (1.3, 0.6, 2.1, 0.9)) -> Batch:
    rng = np.random.default_rng(0)
    batch = collate([(0.1 * rng.standard_normal(int(RATE * length))).astype(np.float32) for length in seconds], PLAN, RATE)
    return dataclasses.replace(batch, target=torch.eye(4)[: len(seconds)], weight=torch.ones(len(seconds)))


def made(**settings: object) -> Pretrained:
    method = build(Run(method=Pretrained.Config(**settings), chunks=PLAN))
    assert isinstance(method, Pretrained)
    return method


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whisper as the hub keeps it, decoder and all."""
    folder = tmp_path_factory.mktemp("whisper")
    torch.manual_seed(1)
    config = transformers.WhisperConfig(
        d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24, decoder_layers=1, decoder_attention_heads=2,
        decoder_ffn_dim=16, vocab_size=20, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    transformers.WhisperModel(config).save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return folder


def trained(method: Pretrained) -> set[str]:
    return {name.removeprefix("encoder.model.") for name, p in method.named_parameters() if p.requires_grad and name.startswith("encoder.")}


@pytest.mark.parametrize("encoder", ["random/wavlm", "random/whisper", "random/wav2vec2-bert"])
@pytest.mark.parametrize("tune", ["none", "lora", "full"])
def test_a_step_moves_what_trains_and_nothing_else(encoder: str, tune: str):
    method = made(encoder=encoder, tune=tune, dropout=0.0).train()
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    optimiser = torch.optim.SGD(method.parameter_groups(), lr=10.0)
    for _ in range(2):  # the second reaches what LoRA's zero start hides
        optimiser.zero_grad()
        method.losses({"labelled": batch_of()})["classes"].backward()
        optimiser.step()
    moved = {name for name, p in method.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in method.named_parameters() if p.requires_grad}
    assert bool(trained(method)) == (tune != "none")
    assert all("lora_" in name for name in trained(method)) or tune == "full"


def test_an_encoder_that_is_frozen_keeps_its_dropout_off_and_one_that_trains_does_not():
    for tune in ("none", "full"):
        method = made(tune=tune).train()
        assert method.encoder.model.training == (tune == "full")
        assert method.head.training


class NoView:
    """No hook of this method looks at data."""


def test_layers_thaw_from_the_top_one_more_each_epoch():
    method, view = made(tune="full", thaw_per_epoch=1, tune_front=True), NoView()
    found = []
    for epoch in range(4):
        method.start_epoch(epoch, view)  # type: ignore[arg-type]
        found.append(sum(any(p.requires_grad for p in layer.parameters()) for layer in method.encoder.layers))
    assert found == [0, 1, 2, 2]
    assert any(name.startswith("feature_extractor") for name in trained(method))
    method.start_epoch(1, view)  # type: ignore[arg-type]
    assert all(name.startswith(f"encoder.layers.{LAYERS - 1}") for name in trained(method))


class Four:
    """Four stretches as training data."""

    def __len__(self) -> int:
        return 4

    def names(self, indices):
        return [str(i) for i in indices]

    def batches(self, plan, epoch=None):
        whole = batch_of()
        for at in plan:
            known = {f.name: value for f in dataclasses.fields(whole) if (value := getattr(whole, f.name)) is not None}
            yield dataclasses.replace(whole, **{name: value[at] for name, value in known.items()})


def test_a_run_that_is_broken_off_while_it_thaws_goes_on_as_if_nothing_had_been():
    settings = {"tune": "full", "thaw_per_epoch": 1}
    train = Train(epochs=3, batch_size=2, lr=1e-2)
    whole, broken, resumed = (Trainer(made(**settings), train, Four()) for _ in range(3))
    for epoch in range(3):
        whole.epoch(epoch)
    broken.epoch(0)
    broken.epoch(1)
    resumed.load_state(broken.state())
    resumed.epoch(2)
    assert weights_digest(resumed.method) == weights_digest(whole.method)


def test_the_encoder_learns_at_a_rate_of_its_own():
    groups = made(tune="full", encoder_lr_scale=0.03).parameter_groups()
    assert [group.get("lr_scale", 1.0) for group in groups] == [0.03, 1.0]
    assert [group.get("lr_scale", 1.0) for group in made(tune="lora").parameter_groups()] == [1.0, 1.0]
    assert len(made().parameter_groups()) == 1


@pytest.mark.parametrize("tune", ["none", "lora", "full"])
def test_a_bundle_answers_when_the_encoders_folder_is_gone(tune: str, saved: Path, tmp_path: Path):
    source = shutil.copytree(saved, tmp_path / "encoder")
    run = Run(method=Pretrained.Config(encoder=str(source), tune=tune), chunks=PLAN)
    method = build(run)
    with torch.no_grad():
        for p in method.parameters():  # as if trained
            p += 0.01 * torch.randn_like(p) * p.requires_grad
        wanted = method.eval()(batch_of()).emotion
    folder = bundle.save(tmp_path / "bundle", method, run)
    shutil.rmtree(source)
    loaded = bundle.load(folder)
    with torch.no_grad():
        torch.testing.assert_close(loaded.method(batch_of()).emotion, wanted)
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert kinds == {".json", ".safetensors", ".md"}
    assert sorted(path.name for path in (folder / "encoder").iterdir()) == ["config.json", "preprocessor_config.json"]
    assert "holds the encoder encoder (main), whose own licence applies" in (folder / "README.md").read_text()
    again = bundle.load(bundle.save(tmp_path / "again", loaded.method, loaded.run))
    assert again.method.files() == method.files()


def test_an_encoder_config_that_was_edited_in_a_bundle_is_refused(tmp_path: Path):
    run = Run(method=Pretrained.Config(), chunks=PLAN)
    folder = bundle.save(tmp_path / "bundle", build(run), run)
    config = folder / "encoder" / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 32', '"hidden_size": 64'))
    with pytest.raises(ValueError, match=r"config\.json was changed after the bundle was saved"):
        bundle.load(folder)
    config.unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        bundle.load(folder)


def test_kept_features_give_the_answer_of_the_sound_itself():
    method, batch = made().eval(), batch_of()
    with torch.no_grad():
        kept = dataclasses.replace(batch, frozen=method.frozen(batch), chunks=torch.zeros_like(batch.chunks))
        torch.testing.assert_close(method(kept).emotion, method(batch).emotion)
        torch.testing.assert_close(method(kept).chunk_emotion, method(batch).chunk_emotion)


def test_features_have_a_name_of_the_encoders_weights_and_settings_and_only_where_it_is_frozen():
    assert made(tune="full").frozen_name() == made(tune="lora").frozen_name() == ""
    name = made().frozen_name()
    assert name == made(width=64, dropout=0.5).frozen_name()  # the head decides nothing of what the encoder gives
    assert name != made(encoder="random/hubert").frozen_name()
    other = made()
    with torch.no_grad():
        next(other.encoder.parameters()).mul_(1.001)
    assert name != other.frozen_name()


def test_chunks_longer_than_whisper_hears_are_refused_before_training():
    with pytest.raises(ValueError, match=r"chunks of at most 30 s, got chunks\.length_s=31"):
        build(Run(method=Pretrained.Config(encoder="random/whisper"), chunks=ChunkPlan(length_s=31.0, hop_s=31.0)))


def test_whoever_starts_training_is_told_first_what_cannot_be_had():
    run = Run(method=Pretrained.Config(encoder="some/where"))
    with pytest.raises(ValueError, match="neither a folder nor to be had"):
        Pretrained.make_ready(run.method, run.spec)


def test_the_job_names_an_encoder_and_survives_json():
    from jobs.pretrained import RUN

    assert run_from_dict(run_to_dict(RUN)) == RUN
    assert not RUN.method.encoder.startswith("random/")
    assert open_encoder(Pretrained.Config().encoder)[1] is None


def test_a_bundle_without_its_encoder_s_config_is_refused_and_nothing_is_looked_for() -> None:
    with pytest.raises(ValueError, match=r"config\.json of the encoder is missing"):
        build(Run(method=Pretrained.Config(encoder="some/where")), files={})


@pytest.mark.parametrize("encoder", ["random/wavlm", "random/hubert", "random/whisper", "random/wav2vec2-bert"])
@pytest.mark.parametrize("tune", ["lora", "full"])
def test_layers_that_are_computed_again_have_the_same_gradients_and_keep_less(encoder: str, tune: str):
    found = []
    for recompute in (False, True):
        torch.manual_seed(0)
        method = made(encoder=encoder, tune=tune, recompute=recompute).train()
        kept: list[int] = []
        with saved_tensors_hooks(lambda tensor, kept=kept: (kept.append(tensor.nbytes), tensor)[1], lambda tensor: tensor):
            loss = method.losses({"labelled": batch_of()})["classes"]
        loss.backward()
        found.append((sum(kept), {name: p.grad for name, p in method.named_parameters() if p.grad is not None}))
    (plain, wanted), (less, gradients) = found
    assert less < 0.5 * plain
    assert gradients.keys() == wanted.keys()
    for name, value in gradients.items():
        torch.testing.assert_close(value, wanted[name], atol=1e-6, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(
    ("field", "value"),
    [("thaw_per_epoch", -1), ("encoder_lr_scale", -0.1), ("lora_rank", 0), ("lora_alpha", 0), ("lora_dropout", 1.0), ("dropout", -0.1)],
)
def test_settings_that_would_train_nothing_or_the_wrong_way_are_refused(field: str, value: float):
    with pytest.raises(ValueError, match=rf"method\.{field} must be in "):
        Pretrained.Config(**{field: value})


def test_an_encoder_below_the_home_of_a_user_is_found(saved: Path, monkeypatch: pytest.MonkeyPatch):
    """A shell expands ~ at the beginning of a word alone, and not in method.encoder=~/whisper."""
    monkeypatch.setenv("HOME", str(saved.parent))
    method = made(encoder=f"~/{saved.name}")
    assert method.encoder.family == "whisper"
    assert f"the encoder {saved.name} (main)" in method.terms()


@pytest.mark.parametrize("extractor", [True, False])
def test_the_card_says_that_samples_are_standardised_where_the_encoder_does_not_say_whether(extractor: bool, tmp_path: Path):
    files = open_encoder("random/hubert")[0]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    if not extractor:
        (tmp_path / "preprocessor_config.json").unlink()
    settings = transformers.AutoConfig.from_pretrained(tmp_path)
    transformers.HubertModel(settings).save_pretrained(tmp_path)
    said = made(encoder=str(tmp_path)).terms()
    assert "whose own licence applies" in said
    assert ("came without preprocessor_config.json, so samples are standardised" in said) != extractor
