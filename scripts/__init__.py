# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Programs that a maintainer runs once: converters, the ONNX export, makers of corpora, the release."""
