# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Teach a small text tower to give what the large one of a checkpoint gives, from sentences alone, on one GPU.

    python -m scripts.distil.text CHECKPOINT OUTPUT --texts texts.json.gz [--start fast] [--device cuda] [--minutes 5]
    python -m scripts.distil.text CHECKPOINT OUTPUT --tower runs/text

CHECKPOINT has a text tower like MiniLM (`bert`, mean pooling), `texts.json.gz` is what `scripts/distil/texts.py`
writes. OUTPUT is the checkpoint with the small tower in the place of the large one, its tokenizer, and `log.jsonl`.

The small tower is an ALBERT (https://huggingface.co/papers/1909.11942) as wide as the large one: small embeddings of
the tokens that sentences need most, and one layer that is run several times. It gives vectors in the space of the
large tower, so that any `text_projection` made for the one serves the other unchanged. Where a projection has changed,
nothing is trained: `--tower` puts the tower of an earlier OUTPUT into the checkpoint. Where the large tower has
changed, `--start` lets that of an earlier OUTPUT learn on. Its tables are stored in 8 bits by
`scripts/release.py --eight_bits`, and training rounds them so at each step.
"""

import argparse
import copy
import json
import math
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset
from transformers import AlbertConfig, AlbertModel, AutoProcessor, PreTrainedTokenizerFast, ProcessorMixin

from modeling_muscall import MusCALLModel
from muscall.checkpoint import resolve
from scripts.distil.running import make_adamw, reporting, write_checkpoint
from scripts.distil.sentences import Sentences, Texts, read_texts
from scripts.release import shorten


LONGEST = 128  # tokens
BUCKETS = {16: 2048, 48: 640, LONGEST: 96}  # most tokens of a sentence: sentences in a batch
WEIGHTS = {"vector": 1.0, "output": 1.0, "similarity": 10.0}
LEARNING_RATE, WARMUP_STEPS = 2e-3, 300
WEIGHT_DECAY, MAX_NORM = 0.01, 1.0
FREQUENT_WORDS = 5000  # keep their tokens, whatever the sentences are
COUNTED_SENTENCES = 200_000  # from which the other tokens that are needed most are taken
DRAWN_AT_ONCE = 4096
EMBEDDING_SPREAD = 0.25  # 8 bits have few numbers near zero; a layer norm follows


class Batch(NamedTuple):
    """Sentences of a similar length as ids of the small and of the large tokenizer `(sentences, tokens)`, padded."""

    small: torch.Tensor
    large: torch.Tensor


def choose_tokens(tokenizer: PreTrainedTokenizerFast, words: list[str], sentences: list[str], size: int) -> list[int]:
    """
    Return the ids of a smaller vocabulary, in order: special tokens, all Latin letters, digits and signs, alone and as
    the end of a word, so that any word of these has its tokens; those of `words` that are tokens; and, of the others,
    the most frequent in sentences.
    """
    vocab = tokenizer.get_vocab()
    kept = set(tokenizer.all_special_ids) | {index for token, index in vocab.items() if _is_latin_character(token)}
    kept |= {vocab[word] for word in words if word in vocab}
    encodings = tokenizer.backend_tokenizer.encode_batch_fast(sentences, add_special_tokens=False)
    counts = Counter(index for encoding in encodings for index in encoding.ids)
    others = [index for index, _ in counts.most_common() if index not in kept]
    return sorted(kept | set(others[: size - len(kept)]))


def _is_latin_character(token: str) -> bool:
    character = token.removeprefix("##")
    return len(character) == 1 and (character.isascii() or unicodedata.name(character, "").startswith("LATIN"))


def prune_tokenizer(tokenizer: PreTrainedTokenizerFast, kept: list[int]) -> PreTrainedTokenizerFast:
    """Return a WordPiece tokenizer with these tokens alone; their new ids are their places in `kept`."""
    new_ids = {old: new for new, old in enumerate(kept)}
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    vocab = content["model"]["vocab"]
    content["model"]["vocab"] = {token: new_ids[old] for token, old in vocab.items() if old in new_ids}
    for token in content["added_tokens"]:
        token["id"] = new_ids[token["id"]]
    for token in content["post_processor"].get("special_tokens", {}).values():
        token["ids"] = [new_ids[old] for old in token["ids"]]
    pruned = copy.deepcopy(tokenizer)
    pruned._tokenizer = tokenizer.backend_tokenizer.from_str(json.dumps(content))
    pruned.model_max_length = LONGEST
    return pruned


def build_tower(
    teacher: nn.Module, kept: list[int], embedding_size: int, intermediate_size: int, num_layers: int
) -> AlbertModel:
    """
    Return a small tower that starts from the large one: its embeddings of the kept tokens in fewer dimensions, and its
    last layer, of whose intermediate features the strongest are kept.
    """
    config = AlbertConfig(
        vocab_size=len(kept),
        embedding_size=embedding_size,
        hidden_size=teacher.config.hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_layers,
        num_attention_heads=teacher.config.num_attention_heads,
        max_position_embeddings=LONGEST,
        hidden_act=teacher.config.hidden_act,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=teacher.config.layer_norm_eps,
        pad_token_id=kept.index(teacher.config.pad_token_id),
        bos_token_id=None,
        eos_token_id=None,
    )
    tower = AlbertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        _start_embeddings(tower, teacher.embeddings, kept)
        _start_layer(tower.encoder.albert_layer_groups[0].albert_layers[0], teacher.encoder.layer[-1])
    return tower


def _start_embeddings(tower: AlbertModel, large: nn.Module, kept: list[int]) -> None:
    small, mapping = tower.embeddings, tower.encoder.embedding_hidden_mapping_in
    positions = large.position_embeddings.weight[:LONGEST]
    constant = large.token_type_embeddings.weight[0] + positions.mean(0)
    words = large.LayerNorm(large.word_embeddings.weight[kept] + constant)
    mean = words.mean(0)
    directions = torch.linalg.svd(words - mean, full_matrices=False).Vh[: small.word_embeddings.embedding_dim].T
    reduced = (words - mean) @ directions
    spread = reduced.std(1).mean()
    scale = EMBEDDING_SPREAD / spread
    small.word_embeddings.weight.copy_(reduced * scale)
    deviation = large.LayerNorm(positions + constant)  # as wide as a word's, so that it is not a tenth of it
    small.position_embeddings.weight.copy_((deviation - deviation.mean(0)) @ directions * scale / 10)
    small.token_type_embeddings.weight.zero_()
    mapping.weight.copy_(directions * spread)
    mapping.bias.copy_(mean)


def _start_layer(small: nn.Module, large: nn.Module) -> None:
    attention = large.attention
    pairs = {"query": attention.self.query, "key": attention.self.key, "value": attention.self.value}
    pairs |= {"dense": attention.output.dense, "LayerNorm": attention.output.LayerNorm}
    for name, module in pairs.items():
        getattr(small.attention, name).load_state_dict(module.state_dict())
    small.full_layer_layer_norm.load_state_dict(large.output.LayerNorm.state_dict())
    strength = large.intermediate.dense.weight.norm(dim=1) * large.output.dense.weight.norm(dim=0)
    strongest = strength.topk(small.ffn.out_features).indices
    small.ffn.weight.copy_(large.intermediate.dense.weight[strongest])
    small.ffn.bias.copy_(large.intermediate.dense.bias[strongest])
    small.ffn_output.weight.copy_(large.output.dense.weight[:, strongest])
    small.ffn_output.bias.copy_(large.output.dense.bias)


@contextmanager
def rounded(tower: nn.Module) -> Iterator[None]:
    """Give all parameters, for a while, the values that they will be stored with."""
    named = dict(tower.named_parameters())
    full = [parameter.detach().clone() for parameter in named.values()]
    stored = [shorten(f"text_model.{name}", values, True).float() for name, values in zip(named, full, strict=True)]
    with torch.no_grad():
        torch._foreach_copy_(list(named.values()), stored)
    yield
    with torch.no_grad():
        torch._foreach_copy_(list(named.values()), full)


class Batches(IterableDataset):
    """
    Yield lists of [`Batch`], one for each of `BUCKETS`, without end, and other ones in each worker.

    Args:
        texts (`Texts`): What sentences are made from.
        small (`PreTrainedTokenizerFast`), large (`PreTrainedTokenizerFast`): The tokenizers of both towers.
        buckets (`dict[int, int]`): See `BUCKETS`.
        seed (`int`): Of the first worker.
    """

    def __init__(
        self,
        texts: Texts,
        small: PreTrainedTokenizerFast,
        large: PreTrainedTokenizerFast,
        buckets: dict[int, int],
        seed: int = 0,
    ):
        self.texts, self.small, self.large, self.buckets, self.seed = texts, small, large, buckets, seed

    def __iter__(self) -> Iterator[list[Batch]]:
        worker = torch.utils.data.get_worker_info()
        sentences = Sentences(self.texts, 1000 * self.seed + (worker.id if worker else 0))
        waiting: dict[int, list[tuple[list[int], list[int]]]] = {length: [] for length in self.buckets}
        while True:
            while any(len(waiting[length]) < count for length, count in self.buckets.items()):
                drawn = sentences.draw(DRAWN_AT_ONCE)
                for pair in zip(encode(self.small, drawn), encode(self.large, drawn), strict=True):
                    longest = max(map(len, pair))
                    length = next((length for length in self.buckets if length >= longest), None)
                    if length and len(waiting[length]) < 4 * self.buckets[length]:
                        waiting[length].append(pair)
            batches = []
            for length, count in self.buckets.items():
                pairs, waiting[length] = waiting[length][:count], waiting[length][count:]
                small, large = ([pair[side] for pair in pairs] for side in (0, 1))
                batches.append(Batch(pad(small, length, self.small), pad(large, length, self.large)))
            yield batches


def encode(tokenizer: PreTrainedTokenizerFast, sentences: list[str]) -> list[list[int]]:
    """Return the ids of sentences, neither padded nor truncated."""
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    return [encoding.ids for encoding in backend.encode_batch_fast(sentences)]


def pad(ids: list[list[int]], length: int, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Return ids `(sentences, length)`."""
    return torch.tensor([row + [tokenizer.pad_token_id] * (length - len(row)) for row in ids], dtype=torch.int32)


def pool(tower: nn.Module, input_ids: torch.Tensor) -> torch.Tensor:
    """Return the means of the tokens that are not padding `(sentences, hidden_size)`, float32."""
    mask = input_ids != tower.config.pad_token_id
    hidden_states = tower(input_ids=input_ids.long(), attention_mask=mask.long()).last_hidden_state.float()
    weights = mask[..., None].float()
    return (hidden_states * weights).sum(1) / weights.sum(1)


def measure_losses(student: torch.Tensor, teacher: torch.Tensor, projection: nn.Module) -> dict[str, torch.Tensor]:
    """
    Compare two towers' vectors of the same sentences `(sentences, hidden_size)`.

    Returns:
        `dict[str, torch.Tensor]`: `vector`, the squared distance relative to the mean square of the teacher's vectors;
        `output`, one less the cosine of what the projection makes of them; `similarity`, the mean squared difference
        of the cosines of all pairs of sentences, around the teacher's mean.
    """
    mean = teacher.mean(0)
    directions = [F.normalize(vectors - mean, dim=-1) for vectors in (student, teacher)]
    difference = directions[0] @ directions[0].T - directions[1] @ directions[1].T
    return {
        "vector": (student - teacher).square().sum(1).mean() / teacher.square().sum(1).mean(),
        "output": 1 - F.cosine_similarity(projection(student), projection(teacher), dim=-1).mean(),
        "similarity": difference.square().mean(),
    }


@dataclass
class Validation:
    """Sentences that training does not see, by kind, as ids of the small tokenizer and as the teacher's vectors."""

    kinds: dict[str, tuple[torch.Tensor, torch.Tensor]]
    projection: nn.Module

    @torch.no_grad()
    def measure(self, tower: nn.Module) -> dict[str, float]:
        """
        Return the mean cosine to the teacher's vectors, `vector`, to what the projection makes of them, `output`, and
        to these less their mean, `centred`, of each kind.
        """
        row = {}
        for kind, (ids, teacher) in self.kinds.items():
            student = pool(tower, ids)
            outputs = [F.normalize(self.projection(vectors), dim=-1) for vectors in (student, teacher)]
            centred = [output - outputs[1].mean(0) for output in outputs]
            row[f"{kind}_vector"] = F.cosine_similarity(student, teacher, dim=-1).mean().item()
            row[f"{kind}_output"] = F.cosine_similarity(*outputs, dim=-1).mean().item()
            row[f"{kind}_centred"] = F.cosine_similarity(*centred, dim=-1).mean().item()
        return row


@torch.no_grad()
def prepare_validation(
    texts: Texts, model: MusCALLModel, small: PreTrainedTokenizerFast, large: PreTrainedTokenizerFast
) -> Validation:
    """Embed the sentences for validation with the teacher; a longer one ends at `LONGEST` tokens."""
    device, kinds = model.device, {}
    for kind, sentences in (("captions", texts.validation_captions), ("phrases", texts.validation_phrases)):
        ids = [
            pad([row[:LONGEST] for row in encode(tokenizer, sentences)], LONGEST, tokenizer).to(device)
            for tokenizer in (small, large)
        ]
        vectors = torch.cat([pool(model.text_model, part) for part in ids[1].split(64)])
        kinds[kind] = (ids[0], vectors)
    return Validation(kinds, model.text_projection)


def learning_rate_factor(progress: float, step: int) -> float:
    """Return the share of the learning rate: a warm-up, and half a cosine over the run that is done to `progress`."""
    return min(1, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * progress))


def add_gradients(tower: nn.Module, model: MusCALLModel, batches: list[Batch]) -> dict[str, torch.Tensor]:
    """Run a step forward and backward, and return its losses, in which each sentence counts as much."""
    device, losses = model.device, Counter()
    half = device.type == "cuda"
    for batch in batches:
        small, large = (ids.to(device, non_blocking=True) for ids in batch)
        with torch.no_grad(), torch.autocast(device.type, torch.float16, enabled=half):
            teacher = pool(model.text_model, large)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            student = pool(tower, small)
        values = measure_losses(student, teacher, model.text_projection)
        share = len(small) / sum(len(part.small) for part in batches)
        (share * sum(WEIGHTS[name] * value for name, value in values.items())).backward()
        losses.update({name: share * value.detach() for name, value in values.items()})
    return losses


def distil(
    tower: nn.Module,
    model: MusCALLModel,
    batches: Iterator[list[Batch]],
    validation: Validation,
    *,
    steps: int,
    minutes: float,
    learning_rate: float,
    every: int,
    report: Callable[[dict], None],
) -> None:
    """
    Train a small tower, and leave it with the values that it will be stored with.

    Args:
        tower (`nn.Module`), model (`MusCALLModel`): Student and teacher, on one device; the teacher is frozen.
        batches (`Iterator[list[Batch]]`), validation (`Validation`): See there.
        steps (`int`), minutes (`float`): The run ends with whichever ends first.
        learning_rate (`float`): At its highest.
        every (`int`): Steps between two reports.
        report (`Callable`): Gets a row of losses and cosines.
    """
    optimizer = make_adamw(tower.train(), learning_rate, WEIGHT_DECAY)
    start = time.perf_counter()
    for step in range(1, steps + 1):
        progress = max((step - 1) / steps, (time.perf_counter() - start) / 60 / minutes)
        done = step == steps or progress >= 1
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * learning_rate_factor(min(progress, 1), step)
        with rounded(tower):
            losses = add_gradients(tower, model, next(batches))
        nn.utils.clip_grad_norm_(tower.parameters(), MAX_NORM)
        optimizer.step()
        optimizer.zero_grad()
        if step % every == 0 or done:
            row = {"step": step, "seconds": time.perf_counter() - start}
            with rounded(tower.eval()):
                row |= {name: value.item() for name, value in losses.items()} | validation.measure(tower)
            tower.train()
            report(row)
        if done:
            break
    tower.eval()
    with torch.no_grad():
        for name, parameter in tower.named_parameters():
            parameter.copy_(shorten(f"text_model.{name}", parameter, True).float())


def put(
    model: MusCALLModel, processor: ProcessorMixin, tower: AlbertModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Put a tower and its tokenizer into the place of those of a checkpoint."""
    model.text_model, processor.tokenizer = tower.to(model.device), tokenizer
    model.config.text_config = copy.deepcopy(tower.config)


def load_tower(checkpoint: str) -> tuple[AlbertModel, PreTrainedTokenizerFast]:
    """Return the small text tower of a checkpoint and its tokenizer."""
    folder = resolve(checkpoint)
    tokenizer = AutoProcessor.from_pretrained(folder, trust_remote_code=True).tokenizer
    return MusCALLModel.from_pretrained(folder, dtype=torch.float32).text_model, tokenizer


def teach(model: MusCALLModel, processor: ProcessorMixin, args: argparse.Namespace) -> None:
    """Train a small tower for a checkpoint and put it there."""
    texts, large = read_texts(args.texts), processor.tokenizer
    if args.start:
        tower, small = load_tower(args.start)
    else:
        counted = Sentences(texts, args.seed).draw(COUNTED_SENTENCES)
        kept = choose_tokens(large, texts.words[:FREQUENT_WORDS], counted, args.vocab_size)
        small = prune_tokenizer(large, kept)
        sizes = args.embedding_size, args.intermediate_size, args.num_hidden_layers
        tower = build_tower(model.text_model, kept, *sizes)
    tower.to(args.device)
    dataset = Batches(texts, small, large, BUCKETS, args.seed + 1)
    batches = iter(DataLoader(dataset, None, num_workers=args.workers, pin_memory=args.device == "cuda"))
    validation = prepare_validation(texts, model, small, large)
    with reporting(args.output) as report:
        lengths = {"steps": args.steps, "minutes": args.minutes, "every": args.every}
        distil(tower, model, batches, validation, learning_rate=args.learning_rate, report=report, **lengths)
    put(model, processor, tower, small)


def main() -> None:
    args = parse_arguments()
    torch.manual_seed(args.seed)
    torch.backends.cuda.matmul.allow_tf32 = True
    folder = resolve(args.checkpoint)
    model = MusCALLModel.from_pretrained(folder, dtype=torch.float32).to(args.device).eval().requires_grad_(False)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    if args.tower:
        put(model, processor, *load_tower(args.tower))
    else:
        teach(model, processor, args)
    write_checkpoint(model, processor, args.output)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="whose text tower is the teacher")
    parser.add_argument("output", type=Path)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--texts", type=Path, help="what to learn from")
    source.add_argument("--tower", help="take the small tower of this checkpoint, without training")
    parser.add_argument("--start", help="with --texts: the checkpoint whose small tower learns on")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=4000, help="default: %(default)s")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end after so many; default: never")
    parser.add_argument("--every", type=int, default=500, help="steps between validations; default: %(default)s")
    parser.add_argument("--learning_rate", type=float, default=LEARNING_RATE, help="default: %(default)s")
    parser.add_argument("--vocab_size", type=int, default=15_000, help="default: %(default)s")
    parser.add_argument("--embedding_size", type=int, default=96, help="default: %(default)s")
    parser.add_argument("--intermediate_size", type=int, default=1024, help="default: %(default)s")
    parser.add_argument("--num_hidden_layers", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=14, help="that make sentences; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
