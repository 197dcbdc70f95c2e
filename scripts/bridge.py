# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Teach a model the classes of AudioSet that concern music, in closed form, beside what it knows.

    python -m scripts.bridge runs/distil runs/bridge --words runs/words --corpus corpus/language \\
        --music runs/sounds/recorded --teacher mn04_as_mAP_432.pt
    python -m scripts.bridge runs/distil runs/root --taggers runs/taggers ...

The first is the fast model. In the second the student stands beside the taggers that taught it, in one tower: the mean
of their features is what the space that they share is read from, and both say what the classes are.

Two linear maps meet in a space with one dimension for each class. From a sentence to classes: the text projection of
`scripts/words.py`, whose text tower all these models have; it needed no audio. From the features of the audio tower to
classes: what the teacher hears in music without captions. The new dimensions stand beside those that the model has, as
further rows of its projections, so that it stays one dual encoder. Nothing that it knew is lost. At last the space is
turned: its first dimensions say most, so that shorter embeddings are the beginnings of the whole ones.
"""

import argparse
import copy
import json
from pathlib import Path

import soundfile
import soxr
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import nn
from tqdm import tqdm
from transformers import AutoProcessor

from configuration_muscall import MusCALLEnsembleConfig
from modeling_muscall import MusCALLAudioTower, MusCALLEnsembleModel, MusCALLModel
from muscall.training.audioset import RATE as TEACHER_RATE
from muscall.training.audioset import AudioSetTeacher, load_audioset_teacher
from scripts.words import embed_in_batches, solve_ridge


AUDIO_RIDGE = 1000.0
SHARE = 0.8  # of the new dimensions, relative to those that were there
WINDOWS_OF_A_TRACK = 3
NUM_CAPTIONS = 400  # by which both parts of the space are measured


@torch.no_grad()
def join_towers(taggers: MusCALLModel, student: MusCALLModel) -> MusCALLModel:
    """
    Put a student beside the taggers that taught it: the projection gets the mean of the features of both.

    Args:
        taggers (`MusCALLModel`): With a musicnn tower; it is changed.
        student (`MusCALLModel`): With a MobileNet whose pooled features stand for those of the taggers.

    Raises:
        `ValueError`: if the features of the two differ in size.
    """
    configs = taggers.config.audio_config, student.config.audio_config
    if configs[0].hidden_size != configs[1].hidden_size:
        raise ValueError(
            f"the student must have the features of the taggers, {configs[0].hidden_size}, got "
            f"{configs[1].hidden_size}: give what scripts.distil.train writes"
        )
    musicnn_config, mobilenet_config = copy.deepcopy(configs)
    tower = MusCALLEnsembleModel(
        MusCALLEnsembleConfig(musicnn_config=musicnn_config, mobilenet_config=mobilenet_config)
    )
    tower.musicnn, tower.mobilenet = taggers.audio_model, student.audio_model
    tower.mobilenet.config = tower.config.mobilenet_config  # which `join` changes
    layer = taggers.audio_projection[0]
    joined = nn.Linear(tower.config.hidden_size, layer.out_features)
    joined.weight.copy_(torch.cat([layer.weight, layer.weight], dim=1) / 2)
    joined.bias.copy_(layer.bias)
    taggers.audio_projection[0], taggers.audio_model, taggers.config.audio_config = joined, tower, tower.config
    return taggers.eval()


def mobilenet_of(tower: MusCALLAudioTower) -> MusCALLAudioTower:
    """Return the MobileNet that stands beside taggers, or is the whole tower."""
    return tower.mobilenet if isinstance(tower, MusCALLEnsembleModel) else tower


def hear_features(tower: MusCALLAudioTower, windows: torch.Tensor) -> torch.Tensor:
    """Return what classes are read from: the features of taggers, if there are any, and the trunk of a MobileNet."""
    if isinstance(tower, MusCALLEnsembleModel):
        return torch.cat([tower.musicnn(windows).pooler_output, hear_features(tower.mobilenet, windows)], dim=1)
    return tower(windows).last_hidden_state.mean(1)


def pool_features(tower: MusCALLAudioTower, features: torch.Tensor) -> torch.Tensor:
    """Return the pooled features `(windows, hidden_size)` for what [`hear_features`] returned."""
    mobilenet = mobilenet_of(tower)
    tagged = features.shape[1] - mobilenet.config.trunk_channels
    return torch.cat([features[:, :tagged], mobilenet.out_proj(features[:, tagged:])], dim=1)


@torch.no_grad()
def hear(model: MusCALLModel, teacher: AudioSetTeacher, music: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Return what the tower and the teacher make of windows of the tracks in a folder that are as long as a window.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: features `(windows, features)`, see [`hear_features`], and the teacher's
        logits `(windows, 527)`.

    Raises:
        `ValueError`: if the folder has no `.opus` files.
    """
    paths = sorted(music.rglob("*.opus"))
    if not paths:
        raise ValueError(f"{music} has no .opus files: python -m scripts.distil.music makes them")
    tower, features, logits = model.audio_model, [], []
    for path in tqdm(paths, "tracks"):
        samples, rate = soundfile.read(path, dtype="float32")
        seconds = round(tower.config.window_seconds)
        starts = torch.linspace(0, max(0, len(samples) - seconds * rate), WINDOWS_OF_A_TRACK).long().unique()
        for start in starts.tolist():
            window = samples[start : start + seconds * rate]
            if len(window) < seconds * rate:
                continue
            heard = torch.from_numpy(soxr.resample(window, rate, tower.config.sampling_rate))[None]
            features.append(hear_features(tower, heard[:, : tower.config.window_samples]))
            full = torch.from_numpy(soxr.resample(window, rate, TEACHER_RATE))
            parts = full.unfold(0, 10 * TEACHER_RATE, 10 * TEACHER_RATE)  # as long as what the teacher learnt from
            logits.append(teacher(parts).logits.mean(0, keepdim=True))
    return torch.cat(features), torch.cat(logits)


def map_features(features: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Learn what the teacher hears from the features of the tower, each logit standardised over the music.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: weight `(chosen, features)` and bias `(chosen,)`.
    """
    mean, deviation = features.mean(0), features.std(0)
    deviation = deviation.clamp(min=deviation.median() / 2)  # what hardly moves in this music may move in other music
    targets = (logits - logits.mean(0)) / logits.std(0)
    weight = solve_ridge((features - mean) / deviation, targets, AUDIO_RIDGE).T / deviation
    return weight, -weight @ mean


def join_projection(projection: nn.Sequential, size: int, weight: torch.Tensor) -> nn.Sequential:
    """
    Return the projection with further dimensions, which are linear in its input: gelu(x) - gelu(-x) = x.

    Args:
        projection (`nn.Sequential`): A linear layer, GELU, and a linear layer without bias.
        size (`int`): Of the input of the result, whose last numbers may be new.
        weight (`torch.Tensor` of shape `(new dimensions, size)`): What they are.
    """
    first, last = projection[0], projection[2]
    (hidden, old), new = first.weight.shape, len(weight)
    joined = nn.Sequential(
        nn.Linear(size, hidden + 2 * new), nn.GELU(), nn.Linear(hidden + 2 * new, last.out_features + new, bias=False)
    )
    for parameter in joined.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        joined[0].weight[:hidden, :old], joined[0].bias[:hidden] = first.weight, first.bias
        joined[0].weight[hidden:] = torch.cat([weight, -weight])
        joined[2].weight[: last.out_features, :hidden] = last.weight
        joined[2].weight[last.out_features :, hidden:] = torch.cat([torch.eye(new), -torch.eye(new)], dim=1)
    return joined


@torch.no_grad()
def join(
    model: MusCALLModel,
    text_weight: torch.Tensor,
    audio_weight: torch.Tensor,
    audio_bias: torch.Tensor,
    sentences: torch.Tensor,
    features: torch.Tensor,
) -> MusCALLModel:
    """
    Put the classes beside the space of a model. `SHARE` decides how much they count: a mean similarity is made of the
    two parts in this ratio.

    Args:
        model (`MusCALLModel`): With a MobileNet as its tower, perhaps beside taggers; it is changed.
        text_weight, audio_weight, audio_bias: Of `scripts/words.py`, and see [`map_features`].
        sentences (`torch.Tensor` of shape `(sentences, text hidden_size)`): Some captions as projections get them.
        features (`torch.Tensor` of shape `(windows, features)`): Of music, see [`hear_features`].
    """
    tower, new = model.audio_model, len(audio_bias)
    mobilenet = mobilenet_of(tower)
    layer, tagged = mobilenet.out_proj, features.shape[1] - mobilenet.config.trunk_channels
    pooled = pool_features(tower, features)
    lengths = [model.text_projection(sentences).norm(dim=1), model.audio_projection(pooled).norm(dim=1)]
    classes = [sentences @ text_weight, F.linear(features, audio_weight, audio_bias)]
    text_gain = SHARE**0.5 / (classes[0].norm(dim=1) / lengths[0]).mean()
    audio_gain = SHARE**0.5 * lengths[1].mean() / classes[1].norm(dim=1).mean()
    joined = nn.Linear(layer.in_features, layer.out_features + new)
    joined.weight.copy_(torch.cat([layer.weight, audio_weight[:, tagged:]]))
    joined.bias.copy_(torch.cat([layer.bias, audio_bias]))
    mobilenet.out_proj, mobilenet.config.hidden_size = joined, joined.out_features
    # The trunk's part of the new dimensions comes as it is; what the taggers say of them is added here.
    added = torch.cat([audio_weight[:, :tagged], torch.zeros(new, layer.out_features), torch.eye(new)], dim=1)
    model.audio_projection = join_projection(model.audio_projection, added.shape[1], audio_gain * added)
    model.text_projection = join_projection(model.text_projection, len(text_weight), text_gain * text_weight.T)
    model.config.audio_config = tower.config
    model.config.projection_dim += new
    model.config.projection_hidden_size += 2 * new
    return model


@torch.no_grad()
def order_dimensions(model: MusCALLModel, sentences: torch.Tensor, features: torch.Tensor) -> None:
    """
    Turn the space so that its first dimensions say most. Similarities stay as they are, and embeddings can be cut off
    after any number of dimensions.

    Args:
        model (`MusCALLModel`): It is changed.
        sentences (`torch.Tensor` of shape `(sentences, text hidden_size)`): As projections get them.
        features (`torch.Tensor` of shape `(windows, features)`): See [`hear_features`].
    """
    embeds = [model.text_projection(sentences), model.audio_projection(pool_features(model.audio_model, features))]
    embeds = [F.normalize(part, dim=1) for part in embeds]
    moment = sum(part.T @ part / len(part) for part in embeds)
    turn = torch.linalg.eigh(moment.double()).eigenvectors.T.flip(0)  # the largest eigenvalue first
    for projection in (model.text_projection, model.audio_projection):
        projection[2].weight.copy_(turn @ projection[2].weight.double())


def check_text_towers(models: dict[str, MusCALLModel]) -> None:
    """
    Check that all models understand sentences with one text tower, which may be stored in half precision in some.

    Raises:
        `ValueError`: if they do not.
    """
    (first_name, first), *others = models.items()
    tensors = first.text_model.state_dict()
    for name, model in others:
        theirs = model.text_model.state_dict()
        is_same = theirs.keys() == tensors.keys()
        if not is_same or not all(torch.allclose(tensors[key], theirs[key], 1e-3, 1e-6) for key in tensors):
            raise ValueError(f"{name} must have the text tower of {first_name}, from which the taggers must start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a checkpoint with a MobileNet as its audio tower")
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("--taggers", type=Path, help="a checkpoint with a musicnn tower, which shall stand beside it")
    parser.add_argument("--words", type=Path, required=True, help="what scripts/words.py writes")
    parser.add_argument("--corpus", type=Path, required=True, help="what scripts/language.py writes")
    parser.add_argument("--music", type=Path, required=True, help="`recorded` of scripts.distil.music")
    parser.add_argument("--teacher", type=Path, required=True, help="mn04_as_mAP_432.pt of EfficientAT v0.0.1")
    args = parser.parse_args()
    paths = [path for path in (args.words, args.model, args.taggers) if path]
    models = {str(path): MusCALLModel.from_pretrained(path).eval() for path in paths}
    check_text_towers(models)
    words, model, *taggers = models.values()
    if taggers:
        model = join_towers(taggers[0], model)
    processor = AutoProcessor.from_pretrained(args.model, trust_remote_code=True)
    chosen = [row["index"] for row in json.loads((args.corpus / "classes.json").read_text(encoding="utf-8"))]
    features, logits = hear(model, load_audioset_teacher(args.teacher), args.music)
    audio_weight, audio_bias = map_features(features, logits[:, chosen])
    captions = Dataset.from_parquet(str(args.corpus / "train.parquet"))["captions"]
    sentences = embed_in_batches(model, processor.tokenizer, [row[0] for row in captions[:NUM_CAPTIONS]])
    join(model, words.text_projection.weight.T, audio_weight, audio_bias, sentences, features)
    order_dimensions(model, sentences, features)
    model.save_pretrained(args.output_dir)
    processor.save_pretrained(args.output_dir)
    print(f"{len(chosen)} classes from {len(features)} windows: {args.output_dir}")


if __name__ == "__main__":
    main()
