"""How tests are dealt out where there are several processes, as `make test` has them: by files, from both ends of one queue.

A Ray takes half a minute of both cores wherever it starts, so two processes take files with one, the longest first, and the others take the
quick ones. Who has done all of theirs meets the others in the middle, and no process waits long for the last.
"""

from __future__ import annotations

from pathlib import PurePath

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

LONGEST = ("test_faults", "test_submit", "test_sweep_faults", "test_elastic", "test_folds", "test_train")  # minutes each
SERVING = ("tests/serve/", "tests/walks/")  # what wants the usual port of Ray Serve: one after the other
FROM_THE_LONG_END = 2  # processes


def place(path: PurePath) -> int:
    """Where a file stands among the longest; all others stand behind them."""
    return LONGEST.index(path.stem) if path.stem in LONGEST else len(LONGEST)


class ByFile(LoadScopeScheduling):
    """Files are dealt out whole, in the order of the collection to two processes and in its reverse to the others."""

    def _split_scope(self, nodeid: str) -> str:
        return "Ray Serve" if nodeid.startswith(SERVING) else nodeid.partition("::")[0]

    def _assign_work_unit(self, node: WorkerController) -> None:
        if self.nodes.index(node) >= FROM_THE_LONG_END:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)
