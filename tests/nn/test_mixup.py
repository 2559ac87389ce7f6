"""Mixing utterances: the asked ratio is the measured one, who spoke stays the larger part, silence and single utterances are left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from moodcast.nn.mixup import SILENCE, Mix, beta_shares, blended, energy_mixed, length_mixed, mixed, partners, segments

LONGEST = 4000


def sounds(seed: int, lengths: list[int], gain: float = 0.01) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise whose level differs between utterances and wanders within them, zero behind their ends."""
    rng = np.random.default_rng(seed)
    waves = np.zeros((len(lengths), max(lengths)), dtype=np.float32)
    for row, size in zip(waves, lengths, strict=True):
        envelope = 1 + 0.9 * np.sin(np.linspace(0, rng.uniform(1, 20), size))
        row[:size] = gain * rng.uniform(0.1, 3) * envelope * rng.standard_normal(size)
    return torch.from_numpy(waves), torch.tensor(lengths)


def power(wave: torch.Tensor) -> float:
    return float(wave.double().square().mean())


many_lengths = st.lists(st.integers(40, LONGEST), min_size=2, max_size=6)
every_case = settings(max_examples=40, deadline=None)


# ---------------------------------------------------------------------------------------------- energy-adaptive


@every_case
@given(seed=st.integers(0, 9999), lengths=many_lengths, snr_db=st.floats(-15, 20), reference=st.sampled_from(["segment", "utterance"]))
def test_the_ratio_that_is_measured_is_the_one_that_was_asked_for(seed: int, lengths: list[int], snr_db: float, reference):
    waves, count = sounds(seed, lengths)
    torch.manual_seed(seed)
    partner, _ = partners(len(lengths), 1.0, waves.device)
    size, start, partner_start = segments(count, partner, 0.5)
    found, share = energy_mixed(waves, count, partner, size, start, partner_start, torch.full((len(lengths),), snr_db), reference)
    assume(float(found.abs().max()) < 1)  # nothing was made softer
    for i, j in enumerate(partner.tolist()):
        here = slice(int(start[i]), int(start[i] + size[i]))
        there = slice(int(partner_start[i]), int(partner_start[i] + size[i]))
        added, ours, theirs = found[i] - waves[i], waves[i, here], waves[j, there]
        assume(power(ours) > SILENCE < power(theirs))
        outside = torch.ones(len(added), dtype=torch.bool)
        outside[here] = False
        assert not added[outside].any()
        scale = float((added[here] @ theirs) / (theirs @ theirs))
        torch.testing.assert_close(added[here], scale * theirs, atol=1e-6, rtol=1e-3)
        loud, soft = (ours, theirs) if reference == "segment" else (waves[i, : lengths[i]], waves[j, : lengths[j]])
        assert 10 * np.log10(power(loud) / (scale**2 * power(soft))) == pytest.approx(snr_db, abs=0.02)
        energy = scale**2 * power(soft)
        wanted = size[i] / lengths[i] * energy / (power(loud) + energy)
        assert float(share[i]) == pytest.approx(float(wanted), rel=1e-2, abs=1e-6)


@pytest.mark.parametrize(("snr_db", "share"), [(0.0, 0.25), (10.0, 0.5 / 11), (-10.0, 0.5 / 1.1), (-5.0, 0.5 / (1 + 10**-0.5))])
def test_the_share_by_hand(snr_db: float, share: float):
    """Half of the utterance: at 0 dB both have half of the energy of that half."""
    waves, count = sounds(0, [1000, 1000])
    zero = torch.zeros(2, dtype=torch.long)
    args = (torch.tensor([1, 0]), torch.tensor([500, 500]), zero, zero, torch.full((2,), snr_db))
    assert energy_mixed(waves, count, *args)[1].tolist() == pytest.approx([share, share])


def test_shares_lie_as_they_were_computed_beforehand():
    """Over -5 to 5 dB at most 0.38, mean 0.125, a fifth below 0.05; over 0 to 20 dB the mean is 0.037, hardly more than noise."""
    torch.manual_seed(0)
    waves, count = sounds(0, [400] * 500)

    def drawn(low: float, high: float) -> torch.Tensor:
        mix = Mix("energy", 1.0, snr_db=(low + high) / 2, snr_spread_db=(high - low) / 2)
        return torch.cat([mixed(waves, count, mix).share for _ in range(20)])

    share = drawn(-5, 5)
    assert share.max() <= 0.5 / (1 + 10**-0.5)
    assert float(share.mean()) == pytest.approx(0.125, abs=0.003)
    assert float((share < 0.05).float().mean()) == pytest.approx(0.22, abs=0.02)
    assert float(drawn(0, 20).mean()) == pytest.approx(0.037, abs=0.002)


@every_case
@given(
    seed=st.integers(0, 9999),
    lengths=st.lists(st.integers(1, 300), min_size=2, max_size=6),
    snr_db=st.floats(-30, 20),
    longest_share=st.floats(0.05, 0.5),
)
def test_whoever_spoke_stays_the_larger_part_of_the_target(seed: int, lengths: list[int], snr_db: float, longest_share: float):
    waves, count = sounds(seed, lengths)
    torch.manual_seed(seed)
    target = torch.eye(6)[torch.randint(6, (len(lengths),))]
    found = mixed(waves, count, Mix("energy", 1.0, snr_db=snr_db, snr_spread_db=0.0, longest_share=longest_share))
    assert (found.share < 0.5).all()
    assert torch.equal(blended(target, found.partner, found.share).argmax(-1), target.argmax(-1))
    assert torch.equal(found.lengths, count)
    assert found.waves.isfinite().all()


@pytest.mark.parametrize("reference", ["segment", "utterance"])
@pytest.mark.parametrize("level", [0.0, 1e-7])
@pytest.mark.parametrize("silent", [0, 1])
def test_silence_is_neither_mixed_in_nor_mixed_over(silent: int, level: float, reference):
    waves, count = sounds(0, [900, 900])
    waves[silent] = level
    torch.manual_seed(0)
    found = mixed(waves, count, Mix("energy", 1.0, reference=reference))
    assert torch.equal(found.waves, waves)
    assert not found.share.any()


def test_of_a_shorter_partner_all_is_used():
    waves, count = sounds(0, [4000, 30])
    torch.manual_seed(0)
    for _ in range(20):
        size, _, partner_start = segments(count, torch.tensor([1, 0]), 0.5)
        assert size[0] <= 30
        assert partner_start[0] + size[0] <= 30
    size, start = torch.tensor([30, 1]), torch.tensor([100, 0])
    found, share = energy_mixed(waves, count, torch.tensor([1, 0]), size, start, torch.zeros(2, dtype=torch.long), torch.zeros(2))
    assert (found[0, 100:130] != waves[0, 100:130]).all()
    assert float(share[0]) == pytest.approx(30 / 4000 / 2)


def test_segments_lie_anywhere_inside_both_utterances_and_no_longer_than_allowed():
    torch.manual_seed(0)
    lengths, partner = torch.tensor([100, 7, 60, 1]), torch.tensor([1, 2, 0, 0])
    drawn = [torch.stack(segments(lengths, partner, 0.5)) for _ in range(2000)]
    size, start, partner_start = torch.stack(drawn, 1)
    assert (size <= torch.minimum(lengths // 2, lengths[partner])).all()
    assert (start >= 0).all()
    assert (start + size <= lengths).all()
    assert (partner_start >= 0).all()
    assert (partner_start + size <= lengths[partner]).all()
    assert sorted(set(size[:, 2].tolist())) == list(range(1, 31))
    assert not size[:, 3].any()  # half of one sample is none
    assert start[:, 1].max() + 3 >= 6 > 0 == start[:, 1].min()


def test_what_would_exceed_full_scale_is_made_softer_as_a_whole_and_the_ratio_stays():
    waves, count = sounds(0, [1000, 1000])
    waves = 0.95 * waves / waves.abs().amax(1, keepdim=True)
    zero = torch.zeros(2, dtype=torch.long)
    args = (torch.tensor([1, 0]), torch.tensor([500, 500]), zero, zero)
    plain, _ = energy_mixed(0.1 * waves, count, *args, torch.full((2,), -10.0))
    found, _ = energy_mixed(waves, count, *args, torch.full((2,), -10.0))
    assert found.abs().amax(1).tolist() == pytest.approx([1.0, 1.0])
    ratio = found / torch.where(plain == 0, 1.0, plain)
    torch.testing.assert_close(ratio[0], torch.full_like(ratio[0], float(ratio[0, 0])), atol=1e-3, rtol=1e-3)


def test_a_hard_label_goes_with_the_same_sound():
    waves, count = sounds(1, [800, 500, 700])
    found = []
    for kind in ("energy", "energy_hard"):
        torch.manual_seed(3)
        found.append(mixed(waves, count, Mix(kind, 1.0)))
    assert torch.equal(found[0].waves, found[1].waves)
    assert found[0].share.all()
    assert not found[1].share.any()


# ------------------------------------------------------------------------------------------------- the others


@every_case
@given(seed=st.integers(0, 9999), lengths=many_lengths)
def test_length_aware_mixing_takes_half_of_both_at_equal_peaks_and_shares_by_duration(seed: int, lengths: list[int]):
    waves, count = sounds(seed, lengths)
    partner = torch.tensor([(i + 1) % len(lengths) for i in range(len(lengths))])
    found, reach, share = length_mixed(waves, count, partner)
    for i, j in enumerate(partner.tolist()):
        one, two = waves[i].numpy(), waves[j].numpy()
        np.testing.assert_allclose(found[i].numpy(), one / np.abs(one).max() / 2 + two / np.abs(two).max() / 2, atol=1e-6)
        assert float(share[i]) == pytest.approx(lengths[j] / (lengths[i] + lengths[j]))
        assert int(reach[i]) == max(lengths[i], lengths[j])


def test_length_aware_mixing_with_silence_is_finite():
    waves, count = sounds(0, [300, 300])
    waves[1] = 0
    found, _, _ = length_mixed(waves, count, torch.tensor([1, 0]))
    assert found.isfinite().all()


def test_plain_mixup_is_the_weighted_sum_of_waves_and_of_targets():
    waves, count = sounds(2, [500, 900, 700])
    torch.manual_seed(5)
    found = mixed(waves, count, Mix("mixup", 1.0, alpha=1.0))
    target = torch.eye(3)
    for i, (j, s) in enumerate(zip(found.partner.tolist(), found.share.tolist(), strict=True)):
        assert 0 < s < 1
        torch.testing.assert_close(found.waves[i], (1 - s) * waves[i] + s * waves[j])
        torch.testing.assert_close(blended(target, found.partner, found.share)[i], (1 - s) * target[i] + s * target[j])
        assert int(found.lengths[i]) == max(int(count[i]), int(count[j]))


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 2.0])
def test_shares_of_the_beta_distribution_have_its_mean_and_spread(alpha: float):
    torch.manual_seed(0)
    share = beta_shares(20_000, alpha, torch.device("cpu"))
    assert share.isfinite().all()
    assert 0 <= share.min() < share.max() <= 1
    assert float(share.mean()) == pytest.approx(0.5, abs=0.015)
    assert float(share.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


@pytest.mark.parametrize("kind", ["mixup", "length", "energy", "energy_hard"])
def test_only_so_many_are_mixed_and_the_rest_is_left_bit_for_bit(kind):
    waves, count = sounds(0, [300] * 400)
    torch.manual_seed(1)
    found = mixed(waves, count, Mix(kind, 0.3, alpha=2.0))
    moved = (found.waves != waves).any(1)
    assert 0.2 < float(moved.float().mean()) < 0.4
    assert not found.share[~moved].any()
    assert not mixed(waves, count, Mix(kind, 0.0)).share.any()


@pytest.mark.parametrize("kind", ["mixup", "length", "energy", "energy_hard"])
def test_nothing_is_heard_behind_the_end_of_an_utterance(kind):
    waves, count = sounds(0, [300, 700, 500])
    for seed in range(10):
        torch.manual_seed(seed)
        found = mixed(waves, count, Mix(kind, 1.0))
        behind = torch.arange(700) >= found.lengths[:, None]
        assert not found.waves[behind].any()


@pytest.mark.parametrize("kind", ["mixup", "length", "energy"])
def test_one_utterance_alone_is_not_mixed(kind):
    waves, count = sounds(0, [300])
    found = mixed(waves, count, Mix(kind, 1.0))
    assert torch.equal(found.waves, waves)
    assert not found.share.any()


def test_partners_are_all_the_others_alike_and_never_oneself():
    torch.manual_seed(0)
    drawn = torch.stack([partners(4, 0.5, torch.device("cpu"))[0] for _ in range(4000)])
    for i in range(4):
        counts = torch.bincount(drawn[:, i], minlength=4)
        assert counts[i] == 0
        assert (counts[torch.arange(4) != i] - 4000 / 3).abs().max() < 150


def test_what_is_drawn_follows_from_the_generator():
    waves, count = sounds(0, [300, 400, 500])
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(mixed(waves, count, Mix("energy", 1.0)).waves)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    ("settings_", "complaint"),
    [
        ({"share": 1.2}, "mix.share"),
        ({"alpha": 0.0}, "mix.alpha"),
        ({"snr_spread_db": -1.0}, "snr_spread_db"),
        ({"longest_share": 0.6}, "might outweigh"),
        ({"longest_share": 0.0}, "longest_share"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings_: dict[str, float], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        Mix(**settings_)


def test_a_kind_that_mixes_no_sound_cannot_be_asked_for_it():
    with pytest.raises(ValueError, match="mixes no sound"):
        mixed(*sounds(0, [300, 300]), Mix("manifold"))
