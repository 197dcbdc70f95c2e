# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The wheel of the pretrained taggers."""

import subprocess
import sys
import zipfile

import pytest


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("musicnn")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, "musicnn==0.1.0"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"the wheel musicnn could not be fetched: {result.stderr.strip()[-200:]}")
    with zipfile.ZipFile(*folder.glob("*.whl")) as archive:
        archive.extractall(folder)
    return folder
