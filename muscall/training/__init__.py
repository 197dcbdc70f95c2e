# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The parts of train.py: arguments, model, losses, distillation, checkpoints and the model card."""
