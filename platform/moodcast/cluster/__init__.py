"""Ray: training, serving, sweeps. The only folder of the package that imports Ray.

Ray reads its environment when it is imported, so what must hold on one machine is said here, before any module below imports it: no
usage statistics, and unless RAY_ADDRESS names a cluster, listeners on loopback alone (the switch's name notwithstanding; see `local`).
"""

from __future__ import annotations

import os

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
if not os.environ.get("RAY_ADDRESS"):
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
