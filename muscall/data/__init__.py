# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Audio-caption corpora: from files of any layout to rows of tracks, and to windows for training."""
