"""What names a part of a network that never trains, so that what it computes may be kept on disk under that name."""

from __future__ import annotations

import hashlib
import inspect
from pathlib import Path

import numpy as np
import torch
from torch import nn


def identity(part: nn.Module, *words: str) -> str:
    """SHA-256 over the weights and buffers of a part, the source files of its classes, `words` (settings) and the versions it runs on."""
    digest = hashlib.sha256(f"torch {torch.__version__} numpy {np.__version__}".encode())
    for word in words:
        digest.update(b"\0" + word.encode())
    for name, value in sorted(part.state_dict().items()):
        digest.update(b"\0" + name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    for path in sorted({inspect.getfile(type(module)) for module in part.modules()}):
        digest.update(b"\0" + Path(path).read_bytes())
    return digest.hexdigest()
