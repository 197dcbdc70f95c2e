# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What search.py and the demo compose: audio files, the index, queries and the map."""
