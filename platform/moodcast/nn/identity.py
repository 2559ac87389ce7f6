"""What names a part of a network that never trains, so that what it computes may be kept on disk under that name."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from moodcast.nn import frontends

FED_BY = (frontends,)  # functions that no class of a part leads to


def identity(part: nn.Module, *words: str, code: tuple[Any, ...] = ()) -> str:
    """SHA-256 over the weights and buffers of a part, `words` (settings), the versions it runs on, and source files: those of the part's
    classes, of `code`, further classes or modules that have a hand in what is computed, and of what every encoder is fed by.
    """
    digest = hashlib.sha256(f"torch {torch.__version__} numpy {np.__version__}".encode())
    for word in words:
        digest.update(b"\0" + word.encode())
    for name, value in sorted(part.state_dict().items()):
        digest.update(b"\0" + name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    for path in sorted({inspect.getfile(one) for one in (*map(type, part.modules()), *code, *FED_BY)}):
        digest.update(b"\0" + Path(path).read_bytes())
    return digest.hexdigest()
