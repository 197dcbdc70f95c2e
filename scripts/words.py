# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Make the words of the release from its language stage.

    python -m scripts.words runs/language runs/words --corpus corpus/language

A text tower that learns from few sentences forgets some of what it knew of all others. The mean of its weights and of
those that it started from keeps both (https://arxiv.org/abs/2109.01903). The output is the checkpoint of the language
stage with this text tower, and with a text projection that gives the classes of the corpus, in closed form: by linear
regression on all its sentences, which names classes better than the projection that the stage has learnt.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import nn
from tqdm import tqdm
from transformers import AutoProcessor, PreTrainedTokenizerBase

from modeling_muscall import MusCALLModel
from scripts.language import PARTS
from scripts.open_mix.tag_baseline import embed_sentences
from scripts.release import average


RIDGE = 30.0


@torch.no_grad()
def embed_in_batches(model: MusCALLModel, tokenizer: PreTrainedTokenizerBase, sentences: list[str]) -> torch.Tensor:
    """Return many sentences as the text projection gets them, `(sentences, text hidden_size)`."""
    starts = tqdm(range(0, len(sentences), 64), "sentences")
    return torch.cat([embed_sentences(model, tokenizer, sentences[start : start + 64], 128) for start in starts])


def solve_ridge(inputs: torch.Tensor, targets: torch.Tensor, ridge: float) -> torch.Tensor:
    """Return the weights `(in, out)` that minimise the squared error plus `ridge` times their square."""
    return torch.linalg.solve(inputs.T @ inputs + ridge * torch.eye(inputs.shape[1]), inputs.T @ targets)


def average_towers(tower: nn.Module, other: nn.Module) -> None:
    """Give a tower the mean of its weights and of those of another one."""
    tower.load_state_dict(average([tower.state_dict(), other.state_dict()]))


def list_sentences(corpus: Dataset) -> tuple[list[str], torch.Tensor]:
    """
    Return the sentences of a corpus, but for the parts of captions and of aspects, and what they mean,
    `(sentences, classes)`.
    """
    sentences, targets, seen = [], [], set()
    for captions, embeds in zip(corpus["captions"], corpus["audio_embeds"], strict=True):
        if captions[0] not in seen:  # a class has several rows
            seen.add(captions[0])
            chosen = captions[: -2 * PARTS] or captions  # the parts come last; only recordings have any
            sentences += chosen
            targets += [embeds] * len(chosen)
    return sentences, torch.tensor(targets)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("language", type=Path, help="what train.py makes of recipes/language.yaml")
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("--corpus", type=Path, required=True, help="what scripts/language.py writes")
    parser.add_argument("--text_model_name_or_path", default="sentence-transformers/all-MiniLM-L6-v2")
    args = parser.parse_args()
    model = MusCALLModel.from_pretrained(args.language).eval()
    processor = AutoProcessor.from_pretrained(args.language, trust_remote_code=True)
    average_towers(model.text_model, MusCALLModel.from_text_pretrained(args.text_model_name_or_path).text_model)
    sentences, targets = list_sentences(Dataset.from_parquet(str(args.corpus / "train.parquet")))
    embeds = embed_in_batches(model, processor.tokenizer, sentences)
    weight = solve_ridge(F.normalize(embeds, dim=-1), targets, RIDGE)
    model.text_projection.weight.data = weight.T.contiguous()
    model.save_pretrained(args.output_dir)
    processor.save_pretrained(args.output_dir)
    print(f"{weight.shape[1]} classes from {len(sentences)} sentences: {args.output_dir}")


if __name__ == "__main__":
    main()
