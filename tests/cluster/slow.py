"""A job whose epochs take a second or more on any machine: time enough to be stopped in one.

python -m tests.cluster.slow MANIFEST --out FOLDER
"""

from __future__ import annotations

from moodcast.cluster.job import main
from tests.cluster.tiny import tiny_run

RUN = tiny_run(epochs=6, batch_size=8, dropout=0.3, sleep_s=0.08)  # 15 steps an epoch of `tiny_corpus`
WIDE = tiny_run(epochs=6, sleep_s=0.02, width=256)  # its checkpoints fill a small disk

if __name__ == "__main__":
    main(RUN, ())
