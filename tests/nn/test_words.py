from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moodcast.batch import TEXT_BYTES, as_bytes, as_texts
from moodcast.nn import words


@pytest.mark.parametrize(
    ("frames", "means"),
    [
        (10, [4.5, 2, 7, 0.5, 2.5, 4.5, 7.5]),
        (7, [3, 1, 4.5, 0, 1, 2, 4.5]),
        (5, [2, 0.5, 3, 0, 1, 2, 3.5]),
        (4, [1.5] * 7),
    ],
)
def test_the_pyramid_is_that_of_the_specification(frames: int, means: list[float]) -> None:
    ramp = torch.arange(float(frames))[None, :, None]
    found = words.pyramid(ramp, torch.zeros(1, 1, dtype=torch.long), torch.full((1, 1), frames))
    assert found.flatten().tolist() == pytest.approx(means)


def test_seven_words_in_five_hundred_frames_begin_where_the_specification_says() -> None:
    starts, widths = words.pieces(torch.tensor([500]), torch.tensor([7]), 50)
    assert starts.tolist() == [[0, 75, 150, 225, 300, 375, 450]]
    assert widths.tolist() == [[50] * 7]


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 120)), min_size=1, max_size=4), st.integers(1, 70))
@settings(max_examples=60, deadline=None)
def test_pieces_begin_at_the_beginning_end_at_the_end_and_step_evenly(shapes: list[tuple[int, int]], width: int) -> None:
    frames, counts = (torch.tensor(values) for values in zip(*shapes, strict=True))
    starts, widths = words.pieces(frames, counts, width)
    for row, (total, count) in enumerate(shapes):
        real = widths[row] > 0
        assert int(real.sum()) == min(max(2, count), words.MAX_WORDS)
        first, wide = starts[row][real], widths[row][real]
        assert first[0] == 0
        assert first[-1] + wide[-1] == total
        steps = first.diff()
        assert steps.max() - steps.min() <= 1
        alone = words.pieces(frames[row : row + 1], counts[row : row + 1], width)
        assert torch.equal(alone[0][0], first)


def test_crops_stay_inside_their_piece_have_the_published_lengths_and_reach_both_ends() -> None:
    torch.manual_seed(0)
    starts, widths = torch.full((1, 4000), 30), torch.full((1, 4000), 50)
    first, wide = words.cropped(starts, widths)
    assert set(wide.flatten().tolist()) == {10, 20, 30, 40, 50}
    assert int(first.min()) == 30
    assert int((first + wide).max()) == 80
    counts = torch.bincount(wide.flatten())[[10, 20, 30, 40, 50]]
    assert (counts - 800).abs().max() < 120  # five shares, equally often
    odd = words.cropped(starts, torch.full((1, 4000), 62))[1]
    assert set(odd.flatten().tolist()) == {12, 24, 36, 48, 62}
    nothing = words.cropped(torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 3, dtype=torch.long))
    assert int(nothing[1].max()) == 0


@given(st.lists(st.text(max_size=30), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_texts_survive_as_bytes_and_words_are_counted_as_python_does(texts: list[str]) -> None:
    rows = as_bytes(texts)
    assert as_texts(rows) == [text.strip() for text in texts]
    plain = as_bytes([text.encode("ascii", "ignore").decode().replace("\x1c", "").replace("\x1d", "") for text in texts])
    wanted = [len(text.replace("\x1e", "_").replace("\x1f", "_").split()) for text in as_texts(plain)]
    assert words.num_words(plain).tolist() == wanted


def test_a_long_text_is_cut_after_a_whole_character() -> None:
    (text,) = as_texts(as_bytes(["ж" * TEXT_BYTES]))
    assert text == "ж" * (TEXT_BYTES // 2)


def test_characters_make_a_word_each_whatever_stands_beside_them_in_the_batch() -> None:
    torch.manual_seed(0)
    encoder = words.CharacterEncoder(8).eval()
    texts = ["", "one", "two of them", "очень длинный ответ"]
    states, mask = encoder(as_bytes(texts))
    assert mask.sum(-1).tolist() == [1, 2, 4, 4]
    for row, text in enumerate(texts):
        alone, there = encoder(as_bytes([text]))
        torch.testing.assert_close(states[row][mask[row]], alone[0][there[0]], atol=1e-6, rtol=0)
    assert not torch.equal(states[1, 1], states[2, 1])


def test_attention_takes_nothing_from_what_is_masked() -> None:
    torch.manual_seed(0)
    layer = words.Attend(8, 2, 0.0).eval()
    x, other = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    found = layer(x, other, mask)
    other[1, 2:] = 100.0
    assert torch.equal(layer(x, other, mask), found)
    torch.testing.assert_close(layer(x[1:], other[1:, :2], mask[1:, :2])[0], found[1], atol=1e-6, rtol=0)


def test_where_spaces_part_too_few_words_for_the_duration_pieces_are_guessed_from_it() -> None:
    text = as_bytes(["今天天气真好我们去公园散步吧", "the weather is fine let us go", "วันนี้อากาศดีมาก", "no", ""])
    seconds = torch.tensor([6.0, 3.0, 4.0, 0.8, 2.0])
    assert words.num_pieces(text, seconds, 2.5).tolist() == [15, 7, 10, 1, 5]
