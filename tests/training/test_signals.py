# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Signals: which are one request to stop, and which one kills."""

import signal
import subprocess
import sys

import pytest
from helpers import ROOT


PROGRAM = """
import os, signal
from muscall.training import signals

seconds = iter({seconds})
signals.time.monotonic = lambda: next(seconds)
stop = signals.StopRequest()
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
    os.kill(os.getpid(), number)
    print("alive", stop.received_at, flush=True)
signals.restore_signals()
os.kill(os.getpid(), signal.SIGTERM)
print("alive after the end")
"""


@pytest.mark.parametrize(
    ("seconds", "lines"),
    [([100.0, 100.1, 109.0], 3), ([100.0, 103.0, 111.0], 2)],
    ids=["at once", "somebody does not want to wait"],
)
def test_a_signal_that_is_repeated(seconds, lines):
    command = [sys.executable, "-c", PROGRAM.format(seconds=seconds)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == -signal.SIGTERM and result.stdout.splitlines() == ["alive 100.0"] * lines
