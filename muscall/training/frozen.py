# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Audio towers that do not learn: on a CPU each window runs through one once, in all runs together."""

import os
from hashlib import blake2b
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers.modeling_outputs import BaseModelOutputWithPooling

from modeling_muscall import MusCALLPreTrainedModel
from muscall.cache import CACHE


BYTES_KEPT = 2**31  # of musicnn 160,000 windows


class FrozenTower:
    """
    A tower that does not learn, and what it made of the windows that it met. On a CPU that is kept, and `save` writes
    it to the Hugging Face cache, where a later run with the same weights finds it.

    Args:
        tower (`MusCALLPreTrainedModel`):
            An audio tower, in evaluation mode.
        save_all (`bool`, *optional*, defaults to `False`):
            Whether `save` also writes what was asked for once: a random window of a long track hardly comes back.
    """

    def __init__(self, tower: MusCALLPreTrainedModel, save_all: bool = False):
        self.tower, self.save_all = tower, save_all
        self.folder: Path | None = None
        self.known: dict[bytes, tuple[torch.Tensor, torch.Tensor]] = {}
        self.returned: set[bytes] = set()
        self.cached: set[bytes] = set()

    def install(self):
        """Whoever calls the tower from now on gets what is known."""
        self.tower.forward = self

    def remove(self):
        del self.tower.forward

    @torch.no_grad()
    def __call__(self, input_values: torch.Tensor, **kwargs) -> BaseModelOutputWithPooling:
        """As the tower's own `forward`."""
        run = type(self.tower).forward
        if input_values.device.type != "cpu":
            return run(self.tower.to(input_values.device), input_values)
        if self.folder is None:
            self._load()
        outputs = []
        for window in input_values:
            key = blake2b(window.numpy(), digest_size=16).digest()
            if key in self.known:
                self.returned.add(key)
            else:
                # Alone: its bits do not depend on what else is new, and so not on where a run was resumed.
                output = run(self.tower, window[None])
                self.known[key] = (output.last_hidden_state[0], output.pooler_output[0])
            outputs.append(self.known[key])
        if outputs and len(self.known) * sum(part.nbytes for part in outputs[0]) > BYTES_KEPT:
            self.known.clear()
            self.returned.clear()
        hidden_states, pooled = (torch.stack(parts) for parts in zip(*outputs, strict=True))
        return BaseModelOutputWithPooling(last_hidden_state=hidden_states, pooler_output=pooled)

    def _load(self):
        config = self.tower.config
        settings = {name: getattr(config, name) for name in type(config).__annotations__ if not name.startswith("_")}
        digest = blake2b(f"{torch.__version__} {config.model_type} {settings}".encode())
        for name, tensor in self.tower.state_dict().items():
            digest.update(name.encode() + tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        self.folder = CACHE / f"windows-{digest.hexdigest()[:32]}"
        for file in sorted(self.folder.glob("*.safetensors")):
            tensors = load_file(file)
            keys = [key.numpy().tobytes() for key in tensors["keys"]]
            outputs = zip(tensors["last_hidden_state"], tensors["pooler_output"], strict=True)
            self.known.update(zip(keys, outputs, strict=True))
        self.cached = set(self.known)

    def save(self):
        """Writes what is new, each process and call a file of its own."""
        keys = sorted((self.known.keys() if self.save_all else self.returned) - self.cached)
        self.returned.clear()
        if not keys:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{len(list(self.folder.glob('*.safetensors'))):03}-{os.getpid()}.safetensors"
        tensors = {
            "keys": torch.tensor([list(key) for key in keys], dtype=torch.uint8),
            "last_hidden_state": torch.stack([self.known[key][0] for key in keys]),
            "pooler_output": torch.stack([self.known[key][1] for key in keys]),
        }
        save_file(tensors, file.with_suffix(".part"))
        os.replace(file.with_suffix(".part"), file)
        self.cached.update(keys)
