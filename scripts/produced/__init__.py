# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The maker of the produced half of the default corpus."""
