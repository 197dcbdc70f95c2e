# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Compare a checkpoint, with its code and tokenizer, with the golden outputs that lie beside its weights.

    python -m scripts.check_checkpoint runs/default        # a folder or a Hub id
"""

import sys

from muscall.checkpoint import check_golden, resolve


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m scripts.check_checkpoint FOLDER_OR_HUB_ID")
    try:
        differences = check_golden(resolve(sys.argv[1]))
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(", ".join(f"{name} as published to {value:.0e}" for name, value in differences.items()))


if __name__ == "__main__":
    main()
