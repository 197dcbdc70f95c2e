# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Processes of their own that start at once: forks of one that has imported what takes seconds to import."""

import multiprocessing
import os
import socket
import tempfile
from pathlib import Path


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["accelerate", "datasets", "transformers.modeling_utils"])


class Fork:
    """A function in a process group of its own; used like a `subprocess.Popen` with a pipe for all that it prints."""

    def __init__(self, function, *args, **environment):
        self.folder = tempfile.TemporaryDirectory(prefix="muscall-fork-")
        self.output = Path(self.folder.name, "output")
        self.process = FORKS.Process(target=run, args=(self.output, os.environ | environment, function, args))
        self.process.start()
        self.pid = self.process.pid

    @property
    def returncode(self):
        return self.process.exitcode

    def poll(self):
        return self.returncode

    def communicate(self, timeout=None):
        self.process.join(timeout)
        self.process.kill()  # where the time was over: pytest would wait for it at its end
        return self.output.read_text(), None


def run(output, environment, function, args):
    os.setsid()
    with output.open("w") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    # This process's own children, such as the workers of a loader, start as in any other.
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    os.environ.clear()
    os.environ.update(environment)
    function(*args)


def fork_ranks(world, function, *args, **environment):
    """Processes that find each other, by the environment that a launcher sets."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.getsockname()[1])}
    environment["WORLD_SIZE"] = str(world)
    return [Fork(function, *args, **environment, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(world)]


def finish(process, returncode=0):
    """Wait for the end of a fork or a `subprocess.Popen`, and return what it printed."""
    output = process.communicate(timeout=300)[0]
    assert process.returncode == returncode, output
    return output
