# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The graphs of scripts/export_onnx.py give what the model gives, and need no PyTorch."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TEACHER, save_model
from small_models import build_musicnn
from transformers import BertConfig


pytest.importorskip("onnxruntime", reason='the export needs: pip install -e ".[onnx]"')

import onnxruntime

from configuration_muscall import MusCALLConfig
from modeling_muscall import MusCALLModel
from muscall.encoder import load_encoder
from scripts.export_onnx import export_onnx


ROOT = Path(__file__).parents[2]
TRACK = sorted((ROOT / "corpus" / "produced").glob("*.opus"))[0]
BERT = {"model_type": "bert", "vocab_size": 50000, "num_hidden_layers": 1, "hidden_size": 32}
BERT |= {"intermediate_size": 64, "num_attention_heads": 2}
T5 = {"model_type": "t5", "vocab_size": 50000, "num_layers": 1, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_heads": 2}
MUSICNN = {"model_type": "muscall_musicnn_model", **TEACHER}


@pytest.fixture(scope="module", params=["attention and eos", "average and mean", "musicnn, T5 and mean"])
def exported(request, tmp_path_factory):
    """A checkpoint and its graphs: the paper's towers in small, and others."""
    folder = tmp_path_factory.mktemp("exported")
    save_model(folder / "checkpoint")
    if request.param != "attention and eos":
        average = MusCALLConfig.from_pretrained(folder / "checkpoint").audio_config.to_dict() | {"pooling": "average"}
        audio_config, text_config = (MUSICNN, T5) if "musicnn" in request.param else (average, BERT)
        torch.manual_seed(0)
        parts = {"audio_config": audio_config, "text_config": text_config, "text_pooling": "mean"}
        model = MusCALLModel(MusCALLConfig(**parts, projection_dim=32))
        if text_config is T5:
            model.audio_model = build_musicnn(**TEACHER)
        else:
            for name, parameter in model.text_model.named_parameters():
                if parameter.ndim == 2 and "embed" not in name:
                    parameter.data[0] *= 200  # as in pretrained encoders: one scale for all gives a cosine of 0.98
        model.save_pretrained(folder / "checkpoint")
    export_onnx(str(folder / "checkpoint"), str(folder / "onnx"))
    return load_encoder(str(folder / "checkpoint")), folder / "onnx"


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 1), (3, 2)])
@pytest.mark.parametrize("loudness", [0, 1e-3, 0.3, 30])
def test_audio(exported, shape, loudness):
    encoder, folder = exported
    random = np.random.default_rng(0)
    size = encoder.processor.feature_extractor.window_samples
    windows = (loudness * random.standard_normal((*shape, size))).astype(np.float32)
    windows[..., size // 2 :] = 0  # as in a track shorter than its window
    weights = random.uniform(0.1, 2, shape).astype(np.float32)
    weights[:, 1:] *= random.integers(2, size=weights[:, 1:].shape)  # padding
    session = onnxruntime.InferenceSession(folder / "audio_model.onnx")
    given = session.run(["audio_embeds"], {"input_values": windows, "window_weights": weights})[0]
    inputs = (torch.from_numpy(windows), torch.from_numpy(weights))
    np.testing.assert_allclose(given, encoder.model.get_audio_features(*inputs).pooler_output, atol=1e-5)


@pytest.mark.parametrize(
    "sentences", [["piano"], ["calm solo piano at night", "drums"], [f"fast {'very ' * n}loud" for n in (0, 5, 99)]]
)
def test_text(exported, sentences):
    encoder, folder = exported
    inputs = encoder.processor(text=sentences, return_tensors="np")
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    expected, expected_sentences = encoder.embed_sentences(sentences)
    session = onnxruntime.InferenceSession(folder / "text_model.onnx")
    given, given_sentences = session.run(["text_embeds", "sentence_embeds"], inputs)
    np.testing.assert_allclose(given, expected, atol=1e-5)
    np.testing.assert_allclose(given_sentences, expected_sentences, atol=1e-5)
    rounded = onnxruntime.InferenceSession(folder / "text_model_int8.onnx").run(None, inputs)[0]
    assert (rounded * expected).sum(1).min() > 0.999
    assert (folder / "text_model_int8.onnx").stat().st_size < 0.3 * (folder / "text_model.onnx").stat().st_size


def test_the_example_needs_no_torch(exported, tmp_path):
    """In a process that cannot import it, on a whole track of several windows."""
    encoder, folder = exported
    for name in ("torch", "transformers"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')\n")
    sentences = ["calm solo piano at night", "drums"]
    result = subprocess.run(
        [sys.executable, ROOT / "scripts" / "onnx_example.py", folder, TRACK, *sentences],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    given = [float(line.split()[0]) for line in result.stdout.splitlines()]
    expected = encoder.embed_texts(sentences) @ encoder.embed_track(str(TRACK))
    np.testing.assert_allclose(given, expected, atol=2e-4)  # printed with four digits


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "is no MusCALL checkpoint: it lacks tokenizer.json"),
        (lambda folder: BertConfig().save_pretrained(folder), "expected the model_type 'muscall', got 'bert'"),
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no weights"),
        (shutil.rmtree, "expected the folder of a checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, damage, message):
    damage(save_model(tmp_path / "checkpoint"))
    with pytest.raises((ValueError, OSError), match=message):
        export_onnx(str(tmp_path / "checkpoint"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
