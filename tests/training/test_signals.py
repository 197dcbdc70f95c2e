# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Signals: which are one request to stop, and which one kills."""

import os
import signal
import sys
from types import SimpleNamespace

from forks import Fork, finish

from muscall.training import signals


def signal_itself():
    seconds = iter([100.0, 100.1, 109.0, 111.0])
    signals.time = SimpleNamespace(monotonic=lambda: next(seconds))
    stop = signals.StopRequest()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
        os.kill(os.getpid(), number)
        sys.stdout.write(f"alive {stop.received_at}\n")
        sys.stdout.flush()


def test_a_repeated_signal_is_the_same_request_for_ten_seconds():
    output = finish(Fork(signal_itself), -signal.SIGTERM)
    assert output.splitlines() == ["alive 100.0"] * 3
