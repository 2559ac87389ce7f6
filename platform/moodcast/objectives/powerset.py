"""The loss of who speaks when, of a few speakers in any order and also two at once (Plaquet and Bredin, Interspeech 2023, eq. 1).

Shapes: W windows, T frames, S speakers, P sets of speakers.
"""

from __future__ import annotations

from torch import Tensor, nn


def fitting(found: Tensor, truth: Tensor, sets: Tensor) -> Tensor:
    """The truth [W, T, S] with its speakers in the order that fits the answer [W, T, P] best."""
    from pyannote.audio.utils.permutation import permutate

    moved: Tensor = permutate(found.detach().exp() @ sets, truth)[0]
    return moved


def cross_entropy(found: Tensor, truth: Tensor, sets: Tensor) -> Tensor:
    """Cross-entropy of the sets of speakers, after the permutation that fits best.

    found [W, T, P] log-probabilities of sets, truth [W, T, S] who speaks, sets [P, S] who is in which set: 0 or 1.
    """
    from pyannote.audio.utils.powerset import Powerset

    among = Powerset(sets.shape[1], int(sets.sum(-1).max()))
    target = among.to_powerset(fitting(found, truth, sets)).argmax(-1)
    return nn.functional.nll_loss(found.flatten(0, 1), target.flatten())
