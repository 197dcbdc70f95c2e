# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The audio tower of the released model: two towers that hear the same windows, side by side."""

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling


try:  # as remote code the files are siblings in a package; in the checkout they are top-level modules
    from .configuration_muscall import MusCALLEnsembleConfig
    from .modeling_muscall_mobilenet import MusCALLMobileNetModel
    from .modeling_muscall_musicnn import MusCALLMusicnnModel
    from .modeling_muscall_tower import MusCALLAudioTower
except ImportError:
    from configuration_muscall import MusCALLEnsembleConfig
    from modeling_muscall_mobilenet import MusCALLMobileNetModel
    from modeling_muscall_musicnn import MusCALLMusicnnModel
    from modeling_muscall_tower import MusCALLAudioTower


class MusCALLEnsembleModel(MusCALLAudioTower):
    """
    An audio tower of pretrained taggers and a MobileNet. Its pooled feature is that of the taggers and then that of
    the MobileNet; as the two divide time differently, the only part of a window in `last_hidden_state` is the window.
    """

    config: MusCALLEnsembleConfig
    _no_split_modules = [*MusCALLMusicnnModel._no_split_modules, *MusCALLMobileNetModel._no_split_modules]

    def __init__(self, config: MusCALLEnsembleConfig):
        super().__init__(config)
        self.musicnn = MusCALLMusicnnModel(config.musicnn_config)
        self.mobilenet = MusCALLMobileNetModel(config.mobilenet_config)
        self.post_init()

    def encode_windows(self, input_values: torch.Tensor) -> BaseModelOutputWithPooling:
        """Encode windows `(batch_size, window_samples)` by both towers."""
        pooled = [tower(input_values).pooler_output for tower in (self.musicnn, self.mobilenet)]
        features = torch.cat(pooled, dim=1)
        return BaseModelOutputWithPooling(last_hidden_state=features[:, None], pooler_output=features)

    def constant_norm_parameters(self) -> list[nn.Parameter]:
        """Return those of the taggers: see [`MusCALLMusicnnModel.constant_norm_parameters`]."""
        return self.musicnn.constant_norm_parameters()


__all__ = ["MusCALLEnsembleModel"]
