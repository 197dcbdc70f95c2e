# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The model card that a training run writes."""

import json
import platform
from pathlib import Path


CARD = """---
library_name: transformers
pipeline_tag: zero-shot-audio-classification
license: apache-2.0
tags:
- muscall
- music
- audio
- text-to-audio-retrieval
- custom_code
---

# MusCALL trained on {dataset}

A dual encoder that puts music and sentences into one space
([Contrastive Audio-Language Learning for Music](https://arxiv.org/abs/2208.12208), ISMIR 2022), trained with
the model code in this folder. The licence above is the code's; the weights are bound by the corpus they learnt from.

```python
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained("PATH_OR_ID", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("PATH_OR_ID", trust_remote_code=True)
inputs = processor(text=["calm solo piano", "fast samba with brass"], audio="song.mp3", return_tensors="pt")
print(model(**inputs).logits_per_audio.softmax(-1))
```

## Results

Test split, {num_audio} tracks and {num_text} captions, all of them in the pool; windows: {windows}; ties counted
neutrally. R@k and mAP@10 in per cent; in brackets the 95 % bootstrap interval over tracks ({num_resamples} resamples).

| direction | R@1 | R@5 | R@10 | MedR | mean rank | MRR | mAP@10 |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

## Training

{num_train} tracks (fingerprint `{fingerprint}`); licences of all splits: {licences}.
{seconds:.0f} s on {machine} with {versions}:

```bash
{command}
```

which stands for these arguments:

```json
{arguments}
```

The weights are those of step {best_step}, the best by mean R@10 on the {num_validation} validation tracks.
"""


def _cell(metrics: dict, name: str) -> str:
    cell = f"{metrics[name]:.2f}"
    if f"{name}_interval" in metrics:
        low, high = metrics[f"{name}_interval"]
        cell += f" [{low:.2f}, {high:.2f}]"
    return cell


def write_card(output_dir: Path, results: dict):
    """Writes `README.md` from what a run measured; see `results.json` beside it."""
    metrics = results["test"]
    keys = ("R@1", "R@5", "R@10", "MedR", "mean_rank", "MRR", "mAP@10")
    rows = [
        f"| {direction.replace('_', ' ')}{label} | "
        + " | ".join(_cell(values, f"{direction}_{key}") for key in keys)
        + " |"
        for direction in ("text_to_audio", "audio_to_text")
        for label, values in (("", metrics), (", chance", results["chance"]))
    ]
    card = CARD.format(
        dataset=" and ".join(results["dataset"]).replace("default", "the default corpus"),
        num_audio=metrics["num_audio"],
        num_text=metrics["num_text"],
        windows=results["windows"],
        rows="\n".join(rows),
        num_train=results["num_tracks"].get("train", "streamed"),
        num_validation=results["num_tracks"]["validation"],
        num_resamples=results["num_resamples"],
        fingerprint=results["fingerprint"].get("train", "none"),
        licences=", ".join(f"{licence} ({count})" for licence, count in results["licences"].most_common()),
        seconds=results["training_seconds"],
        machine=platform.machine(),
        versions=", ".join(f"{name} {version}" for name, version in results["versions"].items()),
        command=results["command"],
        arguments=json.dumps(results["arguments"], indent=2),
        best_step=results["validation"]["step"],
    )
    (output_dir / "README.md").write_text(card)
