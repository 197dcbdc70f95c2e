# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Before anything is imported: one core, no network, and a Hugging Face cache of this test run alone."""

import os
import tempfile

import pytest


HF_HOME = tempfile.TemporaryDirectory(prefix="muscall-tests-")
os.environ |= {"HF_HOME": HF_HOME.name, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@pytest.fixture(scope="session", autouse=True)
def remove_cache():
    yield
    HF_HOME.cleanup()
