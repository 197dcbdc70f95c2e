# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What eval.py measures, one file a task; each prepares its data, measures systems and reports."""
