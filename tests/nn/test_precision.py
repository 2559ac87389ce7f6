"""Encoders compute in bfloat16 where that is asked for, and what they are part of does not."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from moodcast.methods.erm import Erm
from moodcast.methods.functionals import Functionals
from moodcast.nn.encoder import CnnEncoder, ConvEncoder, LstmEncoder
from moodcast.nn.precision import computing, encoding, exact, has_encoders
from moodcast.nn.pretrained import FAMILIES, SpeechEncoder, small
from moodcast.run import Run, build

SEEN: list[torch.dtype] = []


class Noted(nn.Linear):
    """Notes in which precision it computed."""

    @encoding
    def forward(self, given: Tensor) -> Tensor:
        found = super().forward(given)
        SEEN.append(found.dtype)
        SEEN.append(self.sums(found).dtype)
        return found

    @exact
    def sums(self, found: Tensor) -> Tensor:
        return found @ found.mT


def summed(values: Tensor) -> Tensor:
    """A sum with fixed weights, to which no normalisation is blind."""
    return (values * torch.randn(values.shape[-1], generator=torch.Generator().manual_seed(2))).mean()


def heard(kind: str, frames: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What an encoder of log-mel frames gives, and the gradients of a sum of it."""
    torch.manual_seed(0)
    made = {"conv": lambda: ConvEncoder(16, 24), "lstm": lambda: LstmEncoder(16, 24, 0.0), "cnn": lambda: CnnEncoder(16, 24, 0.0)}
    encoder = made[kind]()
    found = encoder(frames, mask)
    given: Tensor = found[0] if isinstance(found, tuple) else found
    summed(given).backward()
    return given, [p.grad for p in encoder.parameters() if p.grad is not None]


def test_an_encoder_computes_in_bfloat16_gives_float32_and_spares_what_must_be_exact() -> None:
    layer, given = Noted(4, 3), torch.randn(2, 4)
    plain = layer(given)
    with computing("bfloat16"):
        found = layer(given)
        other = layer.sums(plain)
    assert [torch.float32, torch.float32, torch.bfloat16, torch.float32] == SEEN
    assert found.dtype == other.dtype == torch.float32
    assert not torch.equal(found, plain)
    torch.testing.assert_close(found, plain, atol=0.05, rtol=0.02)
    assert torch.equal(layer(given), plain)


def test_nobody_else_s_thread_is_asked() -> None:
    found: list[torch.dtype] = []
    layer = Noted(4, 3)
    SEEN.clear()
    with computing("bfloat16"):
        thread = threading.Thread(target=lambda: found.append(layer(torch.ones(1, 4)).dtype))
        thread.start()
        thread.join()
    assert found == [torch.float32]
    assert SEEN[0] == torch.float32


@pytest.mark.parametrize("kind", ["conv", "lstm", "cnn"])
def test_encoders_of_frames_give_nearly_the_same_with_finite_gradients(kind: str) -> None:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(3, 40, 16, generator=generator)
    mask = torch.arange(40) < torch.tensor([40, 33, 12])[:, None]
    frames = frames * mask[..., None]
    wanted, gradients = heard(kind, frames, mask)
    with computing("bfloat16"):
        found, rough = heard(kind, frames, mask)
    assert found.dtype == torch.float32
    assert not torch.equal(found, wanted)
    assert (found - wanted).norm() < 0.02 * wanted.norm()
    for one, other in zip(rough, gradients, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.2 * other.norm() + 1e-6


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("recompute", [False, True])
def test_pre_trained_encoders_give_nearly_the_same_with_finite_gradients(family: str, recompute: bool) -> None:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    encoder = SpeechEncoder(small(family), 16_000)
    encoder.thaw()
    encoder.eval()
    if recompute:
        encoder.recompute()
        encoder.train()
        for module in encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            for name in ("dropout", "attention_dropout", "activation_dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
    waves = 0.1 * torch.randn(2, 8_000, generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([8_000, 5_000])

    def states() -> tuple[Tensor, dict[str, Tensor]]:
        encoder.zero_grad()
        found, _ = encoder(waves, lengths)
        summed(found[:, -1]).backward()
        return found.detach(), {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}

    wanted, gradients = states()
    with computing("bfloat16"):
        found, rough = states()
    assert found.dtype == torch.float32
    assert not torch.equal(found, wanted)
    assert (found - wanted).norm() < 0.03 * wanted.norm()
    assert rough.keys() == gradients.keys()
    assert all(torch.isfinite(value).all() and value.dtype == torch.float32 for value in rough.values())
    one, other = (torch.cat([value.flatten() for value in side.values()]) for side in (rough, gradients))
    assert (one - other).norm() < 0.2 * other.norm() + 1e-5


def test_a_method_knows_whether_it_has_encoders() -> None:
    assert has_encoders(build(Run(method=Erm.Config())))
    assert not has_encoders(build(Run(method=Functionals.Config())))
