# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Ctrl-C and SIGTERM: a run saves what it has before it ends."""

import signal
import time

import torch
from accelerate import Accelerator


SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A scheduler signals every process of a job, and a launcher that got the signal passes it on: within these seconds
# another one is the same request.
SAME_REQUEST_SECONDS = 10


class StopRequest:
    """Turn Ctrl-C or SIGTERM into a request to save and stop. One that comes ten seconds later kills as usual."""

    def __init__(self) -> None:
        self.received_at: float | None = None
        for number in SIGNALS:
            signal.signal(number, self._receive)

    def _receive(self, number, frame) -> None:
        if self.received_at is None:
            self.received_at = time.monotonic()
        elif time.monotonic() - self.received_at > SAME_REQUEST_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def anywhere(self, accelerator: Accelerator) -> bool:
        """Return whether any process was asked to stop: all must leave the loop at the same step."""
        received = self.received_at is not None
        if accelerator.num_processes == 1:
            return received
        return bool(accelerator.reduce(torch.tensor(int(received), device=accelerator.device), "sum"))


def restore_signals() -> None:
    """Let Ctrl-C and SIGTERM end the process at once again."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def leave_signals_to_the_main_process(worker: int) -> None:
    """
    Ignore Ctrl-C and SIGTERM in a worker of a loader: both reach all of a group, and the run needs its workers until
    it has saved.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
