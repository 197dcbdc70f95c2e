# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Indexing on a Ray cluster."""

import sys

import pytest


pytest.importorskip("muscall.search")
pytest.importorskip("ray", reason='a cluster needs: pip install -e ".[cluster]"')
pytest.importorskip("lance_ray", reason='a cluster needs: pip install -e ".[cluster]"')


@pytest.mark.slow
def test_ray_workers_write_the_same_rows(check_workers):
    check_workers([sys.executable], "--ray_workers", "2")
