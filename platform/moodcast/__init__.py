"""moodcast: speech emotion recognition on Ray, from a corpus to the timeline of a podcast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moodcast.bundle import Bundle

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(path: Any = "default", **options: Any) -> Bundle:
    """Open a bundle: a folder, or "default" for the one that ships with moodcast. See `moodcast.bundle.load`."""
    from moodcast.bundle import load as load_bundle

    return load_bundle(path, **options)
