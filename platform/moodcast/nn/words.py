"""Audio cut into as many pieces as there are words, words made of their characters, and attention from one to the other.

Source: Lin, Goncalves & Busso (ICMI 2023): as many chunks as words whatever the words' boundaries, random crops of them in training,
a temporal pyramid of means over each; moodcast/methods/word_chunks.py says where we leave it.

Shapes: B stretches, T frames, F features, W words or pieces, N bytes of text (plus one, 0 behind them), D width; masks are True where real.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

CROPS = (0.2, 0.4, 0.6, 0.8, 1.0)  # shares of a piece that training hears
PARTS = 7  # means of the pyramid: of the whole, its halves, its quarters
SHORTEST = 5  # frames below which a piece has one mean
MAX_WORDS = 96
SPACES = (9, 10, 11, 12, 13, 32)
FEWEST = 1.0  # words a second below which spaces do not part the words: Chinese, Japanese, Thai; or there is no text
BEGIN = 257  # stands before every text, and alone where there is none


def num_words(text: Tensor) -> Tensor:
    """How many words, as spaces part them, each text [B, N] has, [B]."""
    return _word_starts(text).sum(-1)


def num_pieces(text: Tensor, seconds: Tensor, usual: float) -> Tensor:
    """How many pieces stretches of `seconds` [B] have, [B]: their words in text [B, N] or, where these are implausibly few for so long a
    stretch, as many as the `usual` words a second would give.
    """
    count = num_words(text)
    return torch.where(count >= FEWEST * seconds, count, (usual * seconds).round().long())


def pieces(frames: Tensor, words: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Where the pieces of stretches with `frames` [B] frames begin, [B, W], and how wide they are: `words` [B] of them, at least 2 each.

    All are `width` frames wide (or as wide as the stretch), the first begins at 0, the last ends at the end, and the steps between
    differ by one frame at most. A piece that is not there has width 0.
    """
    count = words.clamp(2, MAX_WORDS)[:, None]
    wide = frames.clamp_max(width)[:, None]
    index = torch.arange(int(count.max()), device=frames.device)[None]
    starts = (index * (frames[:, None] - wide) + (count - 1) // 2) // (count - 1)
    there = index < count
    return starts * there, wide * there


def cropped(starts: Tensor, widths: Tensor) -> tuple[Tensor, Tensor]:
    """A random crop of each piece: a share drawn from `CROPS`, at a place drawn anew; from torch's global generator."""
    share = torch.tensor(CROPS, device=starts.device)[torch.randint(len(CROPS), starts.shape, device=starts.device)]
    even = 2 * ((share * widths + 1e-4).long() // 2)
    kept = torch.where(share == 1.0, widths, even.clamp_min(1)).clamp_max(widths)
    free = widths - kept + 1
    return starts + (torch.rand(starts.shape, device=starts.device) * free).long().clamp_max(free - 1).clamp_min(0), kept


def pyramid(frames: Tensor, starts: Tensor, widths: Tensor) -> Tensor:
    """Means over pieces of frames [B, T, F], their halves and their quarters, [B, W, 7 F]; the last part takes what is left over."""
    sums = nn.functional.pad(frames.double().cumsum(1), (0, 0, 1, 0))  # [B, T + 1, F]
    half, quarter = widths // 2, widths // 4
    zero = torch.zeros_like(widths)
    edges = [(zero, widths), (zero, half), (half, widths), *((n * quarter, (n + 1) * quarter) for n in range(3)), (3 * quarter, widths)]
    short = widths < SHORTEST
    parts = []
    for start, stop in edges:
        first, last = starts + start * ~short, starts + torch.where(short, widths, stop)
        total = _at(sums, last) - _at(sums, first)
        parts.append(total / (last - first).clamp_min(1)[..., None])
    return torch.cat(parts, dim=-1).to(frames.dtype)


def _at(sums: Tensor, index: Tensor) -> Tensor:
    return sums.gather(1, index[..., None].expand(-1, -1, sums.shape[-1]))


def _word_starts(text: Tensor) -> Tensor:
    """True at the first byte of each word, [B, N]."""
    inside = (text > 0) & ~torch.isin(text - 1, torch.tensor(SPACES, device=text.device))
    return inside & ~nn.functional.pad(inside, (1, 0))[:, :-1]


class CharacterEncoder(nn.Module):
    """Words from the bytes of their UTF-8 characters, in any script, from scratch: embedding, two convolutions, a mean over each word."""

    def __init__(self, width: int, kernel: int = 5) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Embedding(BEGIN + 1, width, padding_idx=0)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, kernel, padding=kernel // 2) for _ in range(2))

    def forward(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """text [B, N] -> words [B, 1 + W, D] and their mask; the first stands for the beginning, and is there without any text."""
        text = torch.cat([torch.full_like(text[:, :1], BEGIN), text], dim=1) if text.shape[1] else text.new_full((len(text), 1), BEGIN)
        starts = nn.functional.pad(_word_starts(text[:, 1:]), (1, 0))
        real = (text > 0)[..., None]
        x = self.embed(text)
        for layer in self.layers:
            x = (x + nn.functional.gelu(layer(x.transpose(1, 2)).transpose(1, 2))) * real
        owner = starts.cumsum(-1).clamp_max(MAX_WORDS)  # the beginning is word 0; spaces belong to the word before them
        count = int(owner.max()) + 1
        sums = x.new_zeros(len(x), count, self.width).scatter_add(1, owner[..., None].expand_as(x), x)
        sizes = x.new_zeros(len(x), count).scatter_add(1, owner, real[..., 0].to(x.dtype))
        return sums / sizes.clamp_min(1.0)[..., None], sizes > 0


class Attend(nn.Module):
    """One layer of attention, normalised first: of a sequence to itself or to another; the residual is that of the sequence that asks."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.asks, self.told = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.keys, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.dense = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor, other: Tensor, mask: Tensor) -> Tensor:
        """x [B, X, D] asks other [B, Y, D] with mask [B, Y], of which at least one is real."""
        query = self.query(self.asks(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.keys(self.told(other)).unflatten(-1, (2 * self.heads, -1)).transpose(1, 2).chunk(2, dim=1)
        found = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask[:, None, None], dropout_p=self.dropout if self.training else 0.0
        )
        x = x + self.out(found.transpose(1, 2).flatten(2))
        return x + nn.functional.dropout(self.dense(x), self.dropout, self.training)


def positions(length: int, width: int, device: torch.device) -> Tensor:
    """Sines and cosines of the place in a sequence, [length, width]."""
    rates = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000.0) / width))
    angles = torch.arange(length, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :width]
