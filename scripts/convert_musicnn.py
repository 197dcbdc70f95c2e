# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Convert the pretrained music taggers of the package `musicnn` (Jordi Pons, ISC licence) into an audio tower.

    pip download --no-deps musicnn && unzip musicnn-*.whl -d wheel
    python -m scripts.convert_musicnn wheel runs/musicnn

It writes a folder that `MusCALLMusicnnModel.from_pretrained` loads: the networks of the Million Song Dataset and of
MagnaTagATune, in this order. The layers that name tags are beside them, in `tags.safetensors`: of a feature
`(400,)`, the sigmoid of `feature @ weight + bias` has the probability of each tag. TensorFlow is not needed.
"""

import argparse
import ast
import json
import re
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from configuration_muscall import MusCALLMusicnnConfig
from modeling_muscall import MusCALLMusicnnModel


TAGGERS = ("MSD", "MTT")
NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
NORMS = ["input_norm", *(f"filters.{i}.norm" for i in range(5)), *(f"norms.{i}" for i in range(3))]
NORMS += ["pool_norm", "dense_norm"]
CONVS = [*(f"filters.{i}.conv" for i in range(5)), *(f"convs.{i}" for i in range(3))]


class _Reader:
    """A position in bytes, from which numbers are read as protocol buffers and LevelDB tables write them."""

    def __init__(self, data: bytes, position: int = 0):
        self.data, self.position = data, position

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.position]
            self.position += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def take(self, size: int) -> bytes:
        self.position += size
        return self.data[self.position - size : self.position]

    def message(self) -> dict[int, list]:
        """Return the fields of a protocol buffer message that goes to the end of the data."""
        fields: dict[int, list] = {}
        while self.position < len(self.data):
            key = self.varint()
            kind = key & 7
            value = self.varint() if kind == 0 else self.take({1: 8, 5: 4}.get(kind) or self.varint())
            fields.setdefault(key >> 3, []).append(value)
        return fields


def _read_block(data: bytes, offset: int, size: int) -> dict[bytes, bytes]:
    """Return one uncompressed block of a LevelDB table: keys share their beginnings with the key before."""
    if data[offset + size]:
        raise ValueError("the bundle is compressed, which TensorFlow's bundles are not: is the wheel intact?")
    block = data[offset : offset + size]
    restarts = int.from_bytes(block[-4:], "little")
    reader, key, entries = _Reader(block[: len(block) - 4 * (restarts + 1)]), b"", {}
    while reader.position < len(reader.data):
        shared, rest, length = reader.varint(), reader.varint(), reader.varint()
        key = key[:shared] + reader.take(rest)
        entries[key] = reader.take(length)
    return entries


def read_bundle(folder: Path) -> dict[str, torch.Tensor]:
    """
    Return the float32 tensors of a TensorFlow checkpoint.

    Args:
        folder (`Path`): With `.index` and `.data-00000-of-00001`.
    """
    index, data = (folder / ".index").read_bytes(), (folder / ".data-00000-of-00001").read_bytes()
    footer = _Reader(index[-48:])
    _, _, offset, size = (footer.varint() for _ in range(4))
    tensors = {}
    for handle in _read_block(index, offset, size).values():
        reader = _Reader(handle)
        for name, value in _read_block(index, reader.varint(), reader.varint()).items():
            entry = _Reader(value).message()
            if not name or entry.get(1) != [1]:  # the header, or another type than float32
                continue
            dims = [_Reader(dim).message().get(1, [0])[0] for dim in _Reader(entry[2][0]).message().get(2, [])]
            begin = entry.get(4, [0])[0]
            values = np.frombuffer(data[begin : begin + entry[5][0]], dtype=np.float32)
            tensors[name.decode()] = torch.from_numpy(values.reshape(dims).copy())
    return tensors


def _numbered(name: str, number: int) -> str:
    return f"{name}_{number}" if number else name


def convert_network(bundle: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of a tagger under the names of [`MusCALLMusicnnNetwork`]."""
    state = {}
    for number, target in enumerate(NORMS):
        for old, new in NORM.items():
            state[f"{target}.{new}"] = bundle[f"{_numbered('batch_normalization', number)}/{old}"]
    for number, target in enumerate(CONVS):
        name = _numbered("conv2d", number)
        kernel = bundle[f"{name}/kernel"]  # (frames, bands, in, out) in front, (frames, in, 1, out) in the middle
        state[f"{target}.weight"] = kernel.permute(3, 2, 1, 0) if number < 5 else kernel[:, :, 0].permute(2, 1, 0)
        state[f"{target}.bias"] = bundle[f"{name}/bias"]
    state["dense.weight"], state["dense.bias"] = bundle["dense/kernel"].T, bundle["dense/bias"]
    return {name: tensor.contiguous() for name, tensor in state.items()}


def read_taggers(wheel: Path) -> tuple[MusCALLMusicnnModel, list[tuple[torch.Tensor, torch.Tensor, list[str]]]]:
    """
    Read the taggers out of the wheel.

    Args:
        wheel (`Path`): The unpacked wheel.

    Returns:
        The tower, and for each of its networks the layer that names tags: weight `(feature_size, 50)`, bias `(50,)`
        and the tags, whose probability is the sigmoid.
    """
    settings = (wheel / "musicnn" / "configuration.py").read_text()
    model, layers = MusCALLMusicnnModel(MusCALLMusicnnConfig(num_networks=len(TAGGERS))).eval(), []
    for network, name in zip(model.networks, TAGGERS, strict=True):
        bundle = read_bundle(wheel / "musicnn" / f"{name}_musicnn")
        missing, extra = network.load_state_dict(convert_network(bundle), strict=False)
        if extra or any(not key.endswith("num_batches_tracked") for key in missing):
            raise ValueError(
                f"{wheel} does not hold the musicnn of version 0.1.0: {missing} are missing, {extra} extra"
            )
        tags = ast.literal_eval(re.search(rf"{name}_LABELS = (\[.*?\])", settings, re.DOTALL)[1])
        layers.append((bundle["dense_1/kernel"], bundle["dense_1/bias"], tags))
    return model, layers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="the unpacked wheel")
    parser.add_argument("output_dir", type=Path)
    args = parser.parse_args()
    if not (args.wheel / "musicnn" / "configuration.py").exists():
        parser.error(f"{args.wheel} is no unpacked musicnn wheel: expected musicnn/configuration.py in it")
    model, layers = read_taggers(args.wheel)
    model.save_pretrained(args.output_dir)
    tensors = {
        "weight": torch.block_diag(*(weight for weight, _, _ in layers)),
        "bias": torch.cat([bias for _, bias, _ in layers]),
    }
    names = [f"{tagger}:{tag}" for tagger, (_, _, tags) in zip(TAGGERS, layers, strict=True) for tag in tags]
    save_file(tensors, args.output_dir / "tags.safetensors", metadata={"tags": json.dumps(names)})
    print(f"{args.output_dir}: {sum(parameter.numel() for parameter in model.parameters()) / 1e6:.1f} M parameters")


if __name__ == "__main__":
    main()
