# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The open mix of real and rendered music, and the baseline that its tags make."""
