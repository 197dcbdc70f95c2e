# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The demo: a page to search a library of music."""
