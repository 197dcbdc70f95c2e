# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Held-out sets and the paper's claims: programs that measure, and their tables."""
