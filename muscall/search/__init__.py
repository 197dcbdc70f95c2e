# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The parts of search.py and the demo: audio files, the index, queries and the map."""

from muscall.extras import require_extra


require_extra("search", "filelock", "lancedb", "mutagen", "onnxruntime", "onnxscript", "pyarrow", "sqlglot")
