# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The tasks of eval.py, one file each; each prepares its data, measures systems and reports."""
