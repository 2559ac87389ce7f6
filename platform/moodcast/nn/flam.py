"""Frame-level attention: self-attention over the frames of a chunk, then learned vectors that gather them; and the poolings it is
compared with.

Source: Wang et al. (arXiv 2512.04551), whose parts are named but not written out: 16-head self-attention over frames, context broadcasting
(Hyeon-Woo et al., ICCV 2023) and learned projection vectors. The wiring is ours.

Shapes: B stretches, C chunks a stretch, N chunks that exist, T frames, D width, V vectors; a mask is True where a frame is real. Every
pooling maps frames [N, T, D], mask [N, T] and exist [B, C] to stretches [B, F] and their chunks [B, C, F], F = `out`; zero for a chunk that
does not exist. A stretch is the weighted mixture (or maximum) of its chunks.
"""

from __future__ import annotations

from torch import Tensor, nn

from moodcast.nn.pool import placed


class FrameAttention(nn.Module):
    """H = X + attention(norm X); h_t = (h_t + mean_t h) / 2 (`broadcast`); a_v = softmax_t(u_v . tanh(W h_t)); all sum_t a_vt h_t.

    heads = 0 leaves self-attention out, and with one vector and no broadcasting what remains is plain soft attention.
    """

    def __init__(self, width: int, heads: int = 4, vectors: int = 4, broadcast: bool = True) -> None:
        super().__init__()
        if heads and width % heads:
            raise ValueError(f"{heads} heads cannot share {width} values of a frame equally; choose a divisor of {width}, or 0 for none")
        self.heads, self.broadcast, self.out = heads, broadcast, vectors * width
        if heads:
            self.norm = nn.LayerNorm(width)
            self.project = nn.Linear(width, 3 * width, bias=False)  # one of keys would change nothing, and Adam would follow its rounding
            self.combine = nn.Linear(width, width)
        self.score = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, vectors, bias=False))

    def attended(self, frames: Tensor, mask: Tensor) -> Tensor:
        """What frames become by looking at each other, [N, T, D]."""
        if self.heads:
            size, count, width = frames.shape
            parts = self.project(self.norm(frames)).view(size, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
            queries, keys, values = parts.unbind(0)
            seen = nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask[:, None, None, :])
            frames = frames + self.combine(seen.transpose(1, 2).flatten(2))
        if self.broadcast:
            real = mask[..., None].to(frames.dtype)
            frames = 0.5 * (frames + (frames * real).sum(1, keepdim=True) / real.sum(1, keepdim=True))
        return frames

    def forward(self, frames: Tensor, mask: Tensor, exist: Tensor) -> tuple[Tensor, Tensor]:
        """See the module docstring. Softmax over a stretch is softmax within its chunks times softmax over the chunks' log-sums."""
        frames = self.attended(frames, mask) * mask[..., None]
        scores = self.score(frames).masked_fill(~mask[..., None], -1e9)  # [N, T, V]
        parts = placed(scores.softmax(1).transpose(1, 2) @ frames, exist)  # [B, C, V, D]
        across = placed(scores.logsumexp(1), exist).masked_fill(~exist[..., None], -1e9).softmax(1) * exist[..., None]
        return (across[..., None] * parts).sum(1).flatten(1), parts.flatten(2)


class MeanPool(nn.Module):
    """The mean over all real frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = width

    def forward(self, frames: Tensor, mask: Tensor, exist: Tensor) -> tuple[Tensor, Tensor]:
        """See the module docstring."""
        total = placed((frames * mask[..., None]).sum(1), exist)
        count = placed(mask.sum(1).to(frames.dtype), exist)[..., None]
        return total.sum(1) / count.sum(1).clamp_min(1.0), total / count.clamp_min(1.0)


class MaxPool(nn.Module):
    """The largest value over all real frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = width

    def forward(self, frames: Tensor, mask: Tensor, exist: Tensor) -> tuple[Tensor, Tensor]:
        """See the module docstring."""
        parts = placed(frames.masked_fill(~mask[..., None], -1e9).amax(1), exist)
        return parts.masked_fill(~exist[..., None], -1e9).amax(1), parts


def pooling(kind: str, width: int, heads: int, vectors: int, broadcast: bool) -> FrameAttention | MeanPool | MaxPool:
    """The pooling of a name: "flam", "mean" or "max"."""
    if kind == "flam":
        return FrameAttention(width, heads, vectors, broadcast)
    return MeanPool(width) if kind == "mean" else MaxPool(width)
