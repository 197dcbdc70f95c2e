# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""What train.py, eval.py, search.py and the demo share. Functions here parse no arguments and print nothing."""
