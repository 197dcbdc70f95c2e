# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
The project's metrics.

This file makes the folder a regular package: a namespace package would lose to the module `metrics` that onnxruntime's
tools put on the path.
"""
