"""What ends things: Ctrl-C, and SIGTERM as it. Without Ray; a real run that is ended so is in test_faults."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from moodcast.cluster import local


def test_an_alarm_that_ray_set_at_sigterm_does_not_abort_the_clean_end() -> None:
    def terminated() -> None:
        signal.alarm(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest-timeout's; the default would end this process
    try:
        with pytest.raises(KeyboardInterrupt), local.interruptible():
            terminated()
        assert signal.alarm(0) == 0  # nothing pending
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_what_a_script_started_in_the_background_ends_at_sigterm_though_it_ignores_ctrl_c() -> None:
    def terminated() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell without job control starts `moodcast serve &`
    try:
        with pytest.raises(KeyboardInterrupt), local.interruptible():
            terminated()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_afterwards_both_signals_have_the_handlers_of_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with local.interruptible():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Ray Train puts one in place and leaves it there
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with ThreadPoolExecutor(1) as elsewhere:  # where no handler can be set
        assert elsewhere.submit(lambda: local.interruptible().__enter__()).result() is None
