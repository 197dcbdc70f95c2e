# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What eval.py composes: tasks, public evaluation sets, comparisons and reports."""
