# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Convert a checkpoint of the paper's released code into a folder that `AutoModel` loads.

    python -m scripts.convert_muscall_original CHECKPOINT.pth.tar OUT_DIR [--config original.yaml]

The checkpoint is a dictionary with a `state_dict`. Every tensor is accounted for: an unknown or missing key is an
error that names it, and so are mel filters that do not belong to the configuration. Without `--config` the
configuration is the released one.
"""

import argparse
import re
from pathlib import Path

import torch
import yaml
from transformers import CLIPTokenizer

from configuration_muscall import MusCALLConfig
from modeling_muscall import MusCALLModel
from processing_muscall import MusCALLFeatureExtractor, MusCALLProcessor


# https://github.com/ilaria-manco/muscall/blob/dfe0782/configs/models/muscall.yaml
RELEASED_CONFIG = {
    "projection_dim": 512,
    "audio": {
        "pooling": "attention",
        "audio_len_seconds": 20,
        "hidden_size": 256,
        "conv_out_channels": 16,
        "n_mels": 128,
        "sample_rate": 16000,
        "n_fft": 1024,
        "f_min": 0,
        "f_max": 11025,
    },
    "text": {
        "num_hidden_layers": 4,
        "hidden_size": 512,
        "num_attention_heads": 8,
        "vocab_size": 49408,
        "max_position_embeddings": 77,
    },
}

# Original name and the name here, tried in order; `None` drops the tensor.
RENAMES = [
    (r"audio_backbone\.conv(\d)\.(.*)", r"audio_model.stem.conv\1.conv.\2"),
    (r"audio_backbone\.bn(\d)\.(.*)", r"audio_model.stem.conv\1.norm.\2"),
    (r"audio_backbone\.attnpool\.positional_embedding", r"audio_model.pool.position_embedding"),
    (r"audio_backbone\.attnpool\.c_proj\.(.*)", r"audio_model.pool.out_proj.\1"),
    (r"audio_backbone\.attnpool\.(.*)", r"audio_model.pool.\1"),
    (r"audio_backbone\.final_linear\.(.*)", r"audio_model.pool.out_proj.\1"),
    (r"audio_backbone\.spec\.spectrogram\.window", None),  # computed, and compared below
    (r"audio_backbone\.spec\.mel_scale\.fb", None),
    (r"textual_head\.(token|position)_embedding\.weight", r"text_model.embeddings.\1_embedding.weight"),
    (r"textual_head\.transformer\.layers\.(\d+)\.0\.norm\.(.*)", r"text_model.encoder.layers.\1.layer_norm1.\2"),
    (r"textual_head\.transformer\.layers\.(\d+)\.1\.norm\.(.*)", r"text_model.encoder.layers.\1.layer_norm2.\2"),
    (
        r"textual_head\.transformer\.layers\.(\d+)\.0\.fn\.out_projection\.(.*)",
        r"text_model.encoder.layers.\1.self_attn.out_proj.\2",
    ),
    (r"textual_head\.transformer\.layers\.(\d+)\.1\.fn\.mlp\.0\.(.*)", r"text_model.encoder.layers.\1.mlp.fc1.\2"),
    (r"textual_head\.transformer\.layers\.(\d+)\.1\.fn\.mlp\.3\.(.*)", r"text_model.encoder.layers.\1.mlp.fc2.\2"),
    (r"textual_head\.transformer\.norm_out\.(.*)", r"text_model.final_layer_norm.\1"),
    (r"textual_head\.ln_final\.(.*)", None),  # defined there, but its forward pass never calls it
    (r"(audio_projection|text_projection)\.weight", r"\1.weight"),
    (r"logit_scale", r"logit_scale"),
]


def convert_config(original: dict) -> MusCALLConfig:
    """Return the configuration of this repository for an original one, a dictionary with the keys of its YAML file."""
    original = original.get("model_config", original)  # a run saves it under this key
    audio, text = original["audio"], original["text"]
    return MusCALLConfig(
        projection_dim=original["projection_dim"],
        audio_config={
            "sampling_rate": audio["sample_rate"],
            "window_seconds": audio["audio_len_seconds"],
            "n_fft": audio["n_fft"],
            "hop_length": audio["n_fft"] // 2,
            "num_mel_bins": audio["n_mels"],
            "f_min": audio["f_min"],
            "f_max": audio["f_max"],
            "stem_width": audio["conv_out_channels"],
            "hidden_size": audio["hidden_size"],
            "pooling": audio["pooling"],
        },
        text_config={
            "vocab_size": text["vocab_size"],
            "hidden_size": text["hidden_size"],
            "intermediate_size": 4 * text["hidden_size"],
            "num_hidden_layers": text["num_hidden_layers"],
            "num_attention_heads": text["num_attention_heads"],
            "max_position_embeddings": text["max_position_embeddings"],
            # The original pools at the largest token id; in its vocabulary that is the end of text.
            "bos_token_id": text["vocab_size"] - 2,
            "eos_token_id": text["vocab_size"] - 1,
            "pad_token_id": text["vocab_size"] - 1,
        },
    )


def convert_state_dict(state_dict: dict[str, torch.Tensor], config: MusCALLConfig) -> dict[str, torch.Tensor]:
    """
    Return an original state dict under the names of this repository.

    Raises:
        `ValueError`: if a key is unknown.
    """
    depths, converted, unknown = config.audio_config.depths, {}, []
    for name, tensor in state_dict.items():
        match = re.fullmatch(r"audio_backbone\.layer([1-4])\.(\d+)\.(.*)", name)
        if match and int(match[2]) < depths[int(match[1]) - 1]:
            block = sum(depths[: int(match[1]) - 1]) + int(match[2])
            rest = match[3].replace("downsample.0", "shortcut.conv").replace("downsample.1", "shortcut.norm")
            rest = re.sub(r"^bn(\d)", r"conv\1.norm", re.sub(r"^conv(\d)", r"conv\1.conv", rest))
            converted[f"audio_model.blocks.{block}.{rest}"] = tensor
        elif match := re.fullmatch(r"textual_head\.transformer\.layers\.(\d+)\.0\.fn\.to_qkv\.weight", name):
            # One matrix without a bias there, three with a bias in `CLIPTextModel`.
            for projection, weight in zip("qkv", tensor.chunk(3), strict=True):
                prefix = f"text_model.encoder.layers.{match[1]}.self_attn.{projection}_proj"
                converted[f"{prefix}.weight"] = weight.clone()
                converted[f"{prefix}.bias"] = torch.zeros(len(weight))
        else:
            rename = next((rule for rule in RENAMES if re.fullmatch(rule[0], name)), None)
            if rename is None:
                unknown.append(name)
            elif rename[1] is not None:
                converted[re.sub(*rename, name)] = tensor
    if unknown:
        raise ValueError(f"The checkpoint has unknown keys: {', '.join(sorted(unknown))}")
    return converted


def convert_checkpoint(state_dict: dict[str, torch.Tensor], original_config: dict) -> MusCALLModel:
    """
    Return the model of an original state dict and configuration.

    Raises:
        `ValueError`: if a key is unknown or missing, a shape differs, or the stored mel filters are not those of the
            configuration; the message names it.
    """
    model = MusCALLModel(convert_config(original_config))
    converted = convert_state_dict(state_dict, model.config)
    expected = model.state_dict()
    missing = sorted(expected.keys() - converted.keys())
    extra = sorted(converted.keys() - expected.keys())
    shapes = [
        f"{name} {tuple(converted[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & converted.keys())
        if converted[name].shape != expected[name].shape
    ]
    for problem, names in {"lacks": missing, "has too many": extra, "has other shapes": shapes}.items():
        if names:
            raise ValueError(f"The checkpoint {problem} (names after conversion): {', '.join(names)}")

    log_mel = model.audio_model.log_mel
    for name, ours in (("spectrogram.window", log_mel.window), ("mel_scale.fb", log_mel.mel_filters)):
        theirs = state_dict.get(f"audio_backbone.spec.{name}")
        if theirs is None:
            raise ValueError(f"The checkpoint lacks audio_backbone.spec.{name}")
        if theirs.shape != ours.shape or not torch.allclose(theirs, ours, atol=1e-4):
            raise ValueError(
                f"audio_backbone.spec.{name} of the checkpoint is not that of the configuration: check sample_rate, "
                "n_fft, n_mels, f_min and f_max."
            )
    model.load_state_dict(converted)
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="The original checkpoint, a dictionary with a `state_dict`.")
    parser.add_argument("output_dir", type=Path, help="The folder to write.")
    parser.add_argument("--config", type=Path, help="The original model configuration; the released one by default.")
    args = parser.parse_args()

    original_config = yaml.safe_load(args.config.read_text()) if args.config else RELEASED_CONFIG
    checkpoint = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
    if "state_dict" not in checkpoint:
        raise ValueError(f"{args.checkpoint} has no `state_dict`; its keys: {', '.join(map(str, checkpoint))}")
    model = convert_checkpoint(checkpoint["state_dict"], original_config)
    model.save_pretrained(args.output_dir)

    audio_config, text_config = model.config.audio_config, model.config.text_config
    feature_extractor = MusCALLFeatureExtractor(
        sampling_rate=audio_config.sampling_rate, window_seconds=audio_config.window_seconds
    )
    tokenizer = CLIPTokenizer.from_pretrained(Path(__file__).parents[1] / "clip_tokenizer")
    if len(tokenizer) == text_config.vocab_size:
        tokenizer.model_max_length = text_config.max_position_embeddings
        MusCALLProcessor(feature_extractor, tokenizer).save_pretrained(args.output_dir)
    else:
        feature_extractor.save_pretrained(args.output_dir)
        print(f"No tokenizer written: CLIP's has {len(tokenizer)} tokens, the checkpoint {text_config.vocab_size}.")
    print(f"{len(checkpoint['state_dict'])} tensors converted to {args.output_dir}")


if __name__ == "__main__":
    main()
