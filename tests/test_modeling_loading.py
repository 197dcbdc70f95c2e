# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""A saved model loads the same elsewhere, and what does not fit, is broken or is no use is refused or told."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from small_models import AUDIO, BERT, build_model, build_processor, build_waves
from transformers import (
    AutoConfig,
    AutoModel,
    AutoProcessor,
    BertConfig,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    pipeline,
)

from configuration_muscall import MusCALLConfig
from modeling_muscall import MusCALLAudioModel, MusCALLModel, find_weight_problems, mean_cosine


CAPTIONS = ["calm solo piano at night", "a fast samba with brass and plenty of percussion"]


@pytest.fixture(scope="module")
def model():
    return build_model()


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    """A folder as `save_pretrained` writes it, with its processor."""
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    build_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def inputs(checkpoint):
    processor = AutoProcessor.from_pretrained(checkpoint, trust_remote_code=True)
    audio = [np.sin(np.arange(40000) / 10), np.random.default_rng(0).normal(size=9000) / 10]
    return processor(text=CAPTIONS, audio=audio, sampling_rate=16000, return_tensors="pt")


IN_A_FRESH_PROCESS = """
import sys, torch
from transformers import AutoFeatureExtractor, AutoModel, AutoProcessor, AutoTokenizer
folder, again, audio, out = sys.argv[1:]
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
model.save_pretrained(again)
processor.save_pretrained(again)
outputs = []
for source in (folder, again):
    model = AutoModel.from_pretrained(source, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(source, trust_remote_code=True)
    extractor = AutoFeatureExtractor.from_pretrained(source, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=True)
    assert "transformers_modules" in type(model).__module__, type(model)
    waves, texts = torch.load(audio)
    inputs = processor(text=texts, audio=waves, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits_per_audio
    values = extractor(waves, sampling_rate=16000, return_tensors="pt").input_values
    ids = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").input_ids
    outputs.append({"logits": logits, "values": values, "ids": ids, "mel": model.audio_model.log_mel(values[0])})
torch.save(outputs, out)
"""


def test_fresh_process(model, checkpoint, tmp_path):
    """Another working directory, no PYTHONPATH, its own HF_HOME: bit-identical, and again after saving once more."""
    waves = [np.sin(np.arange(40000) / 10), np.random.default_rng(0).normal(size=9000) / 10]
    torch.save((torch_waves := [torch.tensor(wave, dtype=torch.float32) for wave in waves], CAPTIONS), tmp_path / "in")
    environment = {"PATH": "/usr/bin:/bin", "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())  # another number of threads adds in another order
    arguments = [checkpoint, tmp_path / "again", tmp_path / "in", tmp_path / "out"]
    subprocess.run([sys.executable, "-c", IN_A_FRESH_PROCESS, *arguments], check=True, cwd=tmp_path, env=environment)
    inputs = build_processor()(text=CAPTIONS, audio=torch_waves, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits_per_audio
    for outputs in torch.load(tmp_path / "out"):
        assert torch.equal(outputs["logits"], logits)
        assert torch.equal(outputs["values"], inputs.input_values) and torch.equal(outputs["ids"], inputs.input_ids)
        assert torch.equal(outputs["mel"], model.audio_model.log_mel(inputs.input_values[0]))


def test_folder_is_complete(checkpoint):
    expected = {"config.json", "configuration_muscall.py", "model.safetensors", "modeling_muscall.py"}
    expected |= {"processing_muscall.py", "processor_config.json", "tokenizer.json", "tokenizer_config.json"}
    expected |= {"audio_file_muscall.py", "audio_headers_muscall.py", "audio_muscall.py"}
    expected |= {"modeling_muscall_mobilenet.py", "modeling_muscall_musicnn.py", "modeling_muscall_resnet.py"}
    expected |= {"modeling_muscall_ensemble.py", "modeling_muscall_tower.py"}
    assert {path.name for path in checkpoint.iterdir()} == expected
    constants = [name for name in load_file(checkpoint / "model.safetensors") if "log_mel" in name]
    assert constants == []


def test_config_of_another_module(checkpoint, inputs, model):
    """A folder's configuration class is not the one its modeling file imports; loading must not care."""
    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=True)
    loaded = AutoModel.from_pretrained(checkpoint, config=config, trust_remote_code=True)
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits_per_audio, model(**inputs).logits_per_audio)


def test_sharded(model, inputs, tmp_path):
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    loaded = AutoModel.from_pretrained(tmp_path, trust_remote_code=True)
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits_per_audio, model(**inputs).logits_per_audio)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.03), (torch.float16, 0.005)])
@torch.no_grad()
def test_half_precision(model, checkpoint, inputs, dtype, tolerance):
    """Cosines within a few roundings of the dtype (2 ** -8 and 2 ** -11) of those in float32."""
    loaded = AutoModel.from_pretrained(checkpoint, trust_remote_code=True, dtype=dtype)
    assert loaded.audio_projection.weight.dtype == dtype
    assert torch.equal(loaded.audio_model.log_mel.mel_filters, model.audio_model.log_mel.mel_filters)
    outputs, expected = loaded(**inputs), model(**inputs)
    assert outputs.audio_embeds.dtype == dtype
    assert (outputs.audio_embeds.float() * expected.audio_embeds).sum(1).min() > 1 - tolerance
    assert (outputs.logits_per_audio - expected.logits_per_audio).abs().max() * 0.07 < tolerance


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("logit_scale"), "missing keys: logit_scale"),
        (lambda state: state.update(more=torch.zeros(1)), "unexpected keys: more"),
    ],
)
def test_checkpoint_with_a_missing_or_extra_tensor(checkpoint, tmp_path, change, message):
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    state = load_file(checkpoint / "model.safetensors")
    change(state)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=message):
        AutoModel.from_pretrained(tmp_path, trust_remote_code=True)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("name", ["audio_projection.weight", "audio_model.blocks.0.conv1.norm.running_var"])
def test_checkpoint_with_nan_or_infinity(checkpoint, tmp_path, name, value):
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    state = load_file(checkpoint / "model.safetensors")
    state[name].view(-1)[3] = float(value)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"NaN or infinite values: {re.escape(name)}"):
        AutoModel.from_pretrained(tmp_path, trust_remote_code=True)


def train_a_little(model):
    """What training leaves: a few strong directions in the projections, and another logit scale."""
    for projection in (model.audio_projection, model.text_projection):
        projection.weight += 5 * torch.outer(projection.weight[:, 0], projection.weight[0])
    model.logit_scale += 0.1


def collapse(model):
    """Every sentence ends in the same features, whatever its tokens."""
    model.text_model.final_layer_norm.weight.zero_()
    model.text_model.final_layer_norm.bias.fill_(0.3)


@pytest.mark.parametrize(
    ("spoil", "problems"),
    [
        (lambda model: None, []),
        (lambda model: torch.nn.init.eye_(model.text_projection.weight).add_(0.01), []),
        (
            lambda model: model.logit_scale.fill_(model.config.logit_scale_init_value),
            ["logit scale is exactly"],
        ),
        (lambda model: model.audio_projection.weight.zero_(), ["`audio_projection` is zero"]),
        (lambda model: model.text_projection.weight.normal_(), ["`text_projection` is zero, or noise"]),
        (collapse, ["text tower has collapsed"]),
    ],
    ids=["none", "identity", "logit scale", "zero", "noise", "collapsed"],
)
def test_what_a_checkpoint_suffers_from_is_said_as_it_loads(tmp_path, caplog, spoil, problems):
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
    model = MusCALLModel(MusCALLConfig(text_config=sizes, projection_dim=64))
    with torch.no_grad():
        train_a_little(model)
        spoil(model)
    model.save_pretrained(tmp_path)
    MusCALLModel.from_pretrained(tmp_path)
    warnings = [record.getMessage() for record in caplog.records if "does not look usable" in record.getMessage()]
    assert len(warnings) == len(problems)
    assert all(problem in warning for problem, warning in zip(problems, warnings, strict=True))


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_a_small_model_is_told_from_noise_by_a_little_training(size):
    """Its towers learn, and its projections hardly move: only untouched ones are called noise."""
    audio_config = {**AUDIO, "hidden_size": 2 * size, "num_attention_heads": 2}
    model = build_model(audio_config=audio_config, projection_dim=size)
    fresh = find_weight_problems(model)
    assert [problem.split(",")[0] for problem in fresh] == [
        "its logit scale is exactly the initial value",
        "`audio_projection` is zero",
        "`text_projection` is zero",
    ]
    inputs = {"input_values": build_waves(4), "input_ids": torch.arange(20).reshape(4, 5), "return_loss": True}
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=0.001), []
    for _ in range(10):
        optimizer.zero_grad()
        losses.append(model(**inputs).loss)
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    assert find_weight_problems(model) == []


def test_mean_cosine_is_that_of_all_pairs():
    embeds = F.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    cosines = [embeds[i] @ embeds[j] for i in range(5) for j in range(5) if i != j]
    assert mean_cosine(embeds) == pytest.approx(sum(cosines).item() / 20, abs=1e-6)
    assert mean_cosine(embeds[:1].expand(8, 4)) == pytest.approx(1)


def test_from_text_pretrained(tmp_path):
    torch.manual_seed(1)
    bert = BertModel(BertConfig(**{key: value for key, value in BERT.items() if key != "model_type"}))
    bert.save_pretrained(tmp_path / "bert")
    model = MusCALLModel.from_text_pretrained(tmp_path / "bert", audio_config=AUDIO, projection_dim=16).eval()
    ids = torch.tensor([[1, 2, 3, 0]])
    mask = torch.tensor([[1, 1, 1, 0]])
    with torch.no_grad():
        expected = bert.eval()(ids, mask).last_hidden_state[0, :3].mean(0)
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
        embeds = model.get_text_features(**inputs).pooler_output[0]
        torch.testing.assert_close(embeds, F.normalize(model.text_projection(expected), dim=0), atol=1e-5, rtol=0)
        model.save_pretrained(tmp_path / "muscall")
        loaded = AutoModel.from_pretrained(tmp_path / "muscall", trust_remote_code=True)
        assert torch.equal(loaded.get_text_features(**inputs).pooler_output[0], embeds)
    other = MusCALLModel.from_text_pretrained(tmp_path / "muscall", audio_config=AUDIO, projection_dim=8)
    assert other.config.projection_dim == 8 and str(tmp_path) not in other.config.to_json_string()
    for name, tensor in model.text_model.state_dict().items():
        assert torch.equal(other.text_model.state_dict()[name], tensor), name


def test_from_clip_with_its_wrong_end_of_text(tmp_path):
    """The configuration of CLIP's checkpoints names token 2; the end of text is the largest id."""
    text_config = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 4, "vocab_size": 99}
    clip = CLIPTextModel(CLIPTextConfig(**text_config, intermediate_size=64, eos_token_id=2))
    clip.save_pretrained(tmp_path)
    model = MusCALLModel.from_text_pretrained(tmp_path, text_pooling="eos", audio_config=AUDIO).eval()
    ids = torch.tensor([[97, 5, 98, 98], [97, 6, 7, 98]])
    with torch.no_grad():
        expected = model.text_projection(clip.eval()(ids).pooler_output)
        embeds = model.get_text_features(ids).pooler_output
    torch.testing.assert_close(embeds, F.normalize(expected, dim=1), atol=1e-5, rtol=0)


def test_audio_tower_does_not_load_from_a_full_checkpoint_in_silence(checkpoint):
    with pytest.raises(ValueError, match="missing keys"):
        MusCALLAudioModel.from_pretrained(checkpoint)


def test_zero_shot_pipeline(checkpoint, model):
    classify = pipeline("zero-shot-audio-classification", model=str(checkpoint), trust_remote_code=True)
    wave = build_waves(1)[0].numpy()
    answer = classify(wave, candidate_labels=["piano", "samba"], hypothesis_template="A {} track")
    assert {row["label"] for row in answer} == {"piano", "samba"}
    assert sum(row["score"] for row in answer) == pytest.approx(1)
