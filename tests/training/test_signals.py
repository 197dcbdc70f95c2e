# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Signals: which are one request to stop, and which one kills."""

import signal
import subprocess
import sys

from helpers import ROOT


PROGRAM = """
import os, signal
from muscall.training import signals

seconds = iter([100.0, 100.1, 109.0, 111.0])
signals.time.monotonic = lambda: next(seconds)
stop = signals.StopRequest()
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
    os.kill(os.getpid(), number)
    print("alive", stop.received_at, flush=True)
"""


def test_a_repeated_signal_is_the_same_request_for_ten_seconds():
    result = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == -signal.SIGTERM and result.stdout.splitlines() == ["alive 100.0"] * 3
