# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Audio towers that do not learn: on a CPU each window runs through one once, in all runs together."""

import os
from hashlib import blake2b
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from modeling_muscall import MusCALLAudioTower
from muscall.cache import CACHE, replace_file


MAX_BYTES = 2**31  # of outputs in memory; of musicnn those of 160,000 windows


class WindowCache:
    """
    The outputs of an audio tower that does not learn, in memory by the content of the window. `save` writes them to
    the Hugging Face cache, where a later run with the same weights reads them.

    Args:
        save_all (`bool`, *optional*, defaults to `False`):
            Whether `save` also writes the outputs that were asked for only once: a random window of a long track
            hardly comes back.
    """

    def __init__(self, save_all: bool = False) -> None:
        self.save_all = save_all
        self.folder: Path | None = None
        self.outputs: dict[bytes, tuple[torch.Tensor, torch.Tensor]] = {}
        self.reused: set[bytes] = set()
        self.saved: set[bytes] = set()

    @torch.no_grad()
    def run(self, tower: MusCALLAudioTower, input_values: torch.Tensor) -> BaseModelOutputWithPooling:
        """
        Return the outputs of the tower, and run it for those windows alone that it has not met.

        Args:
            tower (`MusCALLAudioTower`):
                Always the same one, on the CPU and in evaluation mode.
            input_values (`torch.FloatTensor` of shape `(batch_size, window_samples)`):
                Its windows.
        """
        if self.folder is None:  # at the first window, as the weights of a resumed run come after the tower is made
            self._load(tower)
        outputs = []
        for window in input_values:
            key = blake2b(window.numpy(), digest_size=16).digest()
            if key in self.outputs:
                self.reused.add(key)
            else:
                # One window at a time: its bits do not depend on what else is new, and so not on where a run resumed.
                output = tower(window[None])
                self.outputs[key] = (output.last_hidden_state[0], output.pooler_output[0])
            outputs.append(self.outputs[key])
        if outputs and len(self.outputs) * sum(part.nbytes for part in outputs[0]) > MAX_BYTES:
            self.outputs.clear()
            self.reused.clear()
        hidden_states, pooled = (torch.stack(parts) for parts in zip(*outputs, strict=True))
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)

    def _load(self, tower: MusCALLAudioTower) -> None:
        """Find the folder of this tower in the cache by a hash of its weights, and read its outputs."""
        config = tower.config
        settings = {name: getattr(config, name) for name in type(config).__annotations__ if not name.startswith("_")}
        digest = blake2b(f"{torch.__version__} {config.model_type} {settings}".encode())
        for name, tensor in tower.state_dict().items():
            digest.update(name.encode() + tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        self.folder = CACHE / f"windows-{digest.hexdigest()[:32]}"
        for file in self._files():
            tensors = load_file(file)
            keys = [key.numpy().tobytes() for key in tensors["keys"]]
            outputs = zip(tensors["last_hidden_state"], tensors["pooler_output"], strict=True)
            self.outputs.update(zip(keys, outputs, strict=True))
        self.saved = set(self.outputs)

    def _files(self) -> list[Path]:
        """Return the files of this tower, the oldest first; those that are being written have a dot in front."""
        return sorted(self.folder.glob("[0-9]*.safetensors"))

    def save(self) -> None:
        """Write the outputs that are not on disk; each process and call has a file of its own."""
        keys = sorted((self.outputs.keys() if self.save_all else self.reused) - self.saved)
        self.reused.clear()
        if not keys:
            return
        tensors = {
            "keys": torch.tensor([list(key) for key in keys], dtype=torch.uint8),
            "last_hidden_state": torch.stack([self.outputs[key][0] for key in keys]),
            "pooler_output": torch.stack([self.outputs[key][1] for key in keys]),
        }
        with replace_file(self.folder / f"{len(self._files()):03}-{os.getpid()}.safetensors") as partial:
            save_file(tensors, partial)
        self.saved.update(keys)


class FrozenTower(nn.Module):
    """
    An audio tower that does not learn, behind the cache of its outputs. It can stand in the tower's place in a model
    that embeds windows; on other devices than the CPU the tower is fast, and runs without the cache.

    Args:
        tower (`MusCALLAudioTower`):
            An audio tower, in evaluation mode.
        cache (`WindowCache`):
            What the tower made of earlier windows.
    """

    def __init__(self, tower: MusCALLAudioTower, cache: WindowCache) -> None:
        super().__init__()
        self.tower, self.cache = tower, cache

    @torch.no_grad()
    def forward(self, input_values: torch.Tensor) -> BaseModelOutputWithPooling:
        """Return what the tower returns for windows of shape `(batch_size, window_samples)`."""
        if input_values.device.type == "cpu":
            return self.cache.run(self.tower, input_values)
        return self.tower.to(input_values.device)(input_values)
