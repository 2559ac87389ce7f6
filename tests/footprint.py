"""What a command leaves behind: processes, found by a mark that they inherited in their environment, and files in a temporary folder."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

END_S = 10.0


@dataclass(frozen=True)
class Footprint:
    """A fresh temporary folder with a short path (Ray's unix sockets lie below it) and a mark of one's own."""

    temp: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def environment(self, **more: str) -> dict[str, str]:
        """For a command that starts a Ray of its own: this environment without Ray's settings, with the mark and the folder."""
        own = {"MOODCAST_TEST_MARK": self.mark, "TMPDIR": str(self.temp), "RAY_TMPDIR": str(self.temp)}
        return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | own | more

    def running(self) -> list[str]:
        """Command lines of marked processes."""
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and self.mark.encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:100])
            except OSError:
                continue
        return found

    def left(self) -> list[str]:
        """Marked processes that are still there after some seconds."""
        deadline = time.monotonic() + END_S
        while (found := self.running()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return found


@contextmanager
def footprint() -> Iterator[Footprint]:
    """A footprint whose folder is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="mc-", dir="/tmp"))
    try:
        yield Footprint(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
