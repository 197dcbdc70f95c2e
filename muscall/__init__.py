# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The package that train.py, eval.py, search.py and the demo share. It parses no command line and prints nothing."""
