# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Ctrl-C and SIGTERM: a run saves what it has before it ends."""

import signal

import torch
from accelerate import Accelerator


class StopRequest:
    """Turn the first Ctrl-C or SIGTERM into a request to save and stop; a second one kills as usual."""

    def __init__(self) -> None:
        self.received = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def _receive(self, number, frame) -> None:
        self.received = True
        signal.signal(number, signal.SIG_DFL)

    def anywhere(self, accelerator: Accelerator) -> bool:
        """Return whether any process was asked to stop: all must leave the loop at the same step."""
        if accelerator.num_processes == 1:
            return self.received
        return bool(accelerator.reduce(torch.tensor(int(self.received), device=accelerator.device), "sum"))


def leave_signals_to_the_main_process(worker: int) -> None:
    """
    Ignore Ctrl-C and SIGTERM in a worker of a loader: both reach all of a group, and the run needs its workers until
    it has saved.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
