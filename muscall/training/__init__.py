# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What train.py composes: arguments, model, losses, distillation, checkpoints and the model card."""
