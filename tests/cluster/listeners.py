"""Which sockets a process and its children listen on, from /proc: for the tests that nothing listens beyond loopback."""

from __future__ import annotations

import os
from pathlib import Path

LISTENING = "0A"


def descendants(pid: int) -> set[int]:
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def addresses(pids: set[int]) -> set[str]:
    """ "address:port" in the kernel's hexadecimal, of every TCP socket on which one of the processes listens."""
    inodes: set[str] = set()
    for pid in pids:
        try:
            inodes |= {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}
        except OSError:
            continue
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and f"socket:[{fields[9]}]" in inodes:
                found.add(fields[1])
    return found


def beyond_loopback(pid: int) -> set[str]:
    """Listeners of `pid` and its children that another machine could reach."""
    loopback = ("0100007F:", "00000000000000000000000001000000:", "0000000000000000FFFF00000100007F:")
    return {address for address in addresses(descendants(pid)) if not address.startswith(loopback)}
