# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""
Compare music with sentences without PyTorch:

    python -m scripts.onnx_example runs/onnx song.mp3 "calm piano" "fast samba"
"""

import json
import sys

import numpy as np
import onnxruntime
import soundfile
import soxr
from tokenizers import Tokenizer


folder, track, *sentences = sys.argv[1:]
with open(f"{folder}/processor_config.json") as file:
    settings = json.load(file)["feature_extractor"]
rate, size = settings["sampling_rate"], round(settings["window_seconds"] * settings["sampling_rate"])
samples, source_rate = soundfile.read(track, dtype="float32", always_2d=True)
samples = soxr.resample(samples.mean(1), source_rate, rate)
starts = np.minimum(np.arange(0, max(1, len(samples)), size), max(0, len(samples) - size))  # the last ends with it
weights = np.diff(starts + size, prepend=0).astype(np.float32)  # samples that each window adds to those before
windows = np.stack([np.pad(part, (0, size - len(part))) for part in (samples[s : s + size] for s in starts)])
audio_model = onnxruntime.InferenceSession(f"{folder}/audio_model.onnx")
audio_embeds = audio_model.run(None, {"input_values": windows[None], "window_weights": weights[None]})[0]
tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
tokenizer.enable_padding()
tokens = tokenizer.encode_batch(sentences)
text_inputs = {"input_ids": [t.ids for t in tokens], "attention_mask": [t.attention_mask for t in tokens]}
text_embeds = onnxruntime.InferenceSession(f"{folder}/text_model.onnx").run(None, text_inputs)[0]
for sentence, similarity in zip(sentences, text_embeds @ audio_embeds[0], strict=True):
    print(f"{similarity:.4f}  {sentence}")
