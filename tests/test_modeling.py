import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchaudio
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoProcessor,
    BertConfig,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    pipeline,
)

import modeling_muscall
from configuration_muscall import MusCALLAudioConfig, MusCALLConfig
from modeling_muscall import MusCALLAudioModel, MusCALLModel, contrastive_loss
from modeling_muscall_resnet import MusCALLAttentionPool
from processing_muscall import MusCALLFeatureExtractor, MusCALLProcessor


ROOT = Path(__file__).parents[1]
AUDIO = {"window_seconds": 1, "num_mel_bins": 32, "stem_width": 4, "depths": [1, 2, 1, 1], "hidden_size": 24}
TEXT = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
BERT = {"model_type": "bert", "num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 64}
BERT |= {"num_attention_heads": 4, "vocab_size": 99}
CAPTIONS = ["calm solo piano at night", "a fast samba with brass and plenty of percussion"]


def build_model(**kwargs):
    torch.manual_seed(0)
    kwargs = {"audio_config": AUDIO, "text_config": TEXT, "projection_dim": 16} | kwargs
    model = MusCALLModel(MusCALLConfig(**kwargs)).eval()
    for module in model.modules():  # as after training: every weight counts, statistics are not 0 and 1
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_(std=0.1)
    return model


def build_waves(batch_size=3, seed=0):
    return torch.randn(batch_size, 16000, generator=torch.Generator().manual_seed(seed)) / 10


@pytest.fixture(scope="module")
def model():
    return build_model()


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    """A folder as `save_pretrained` writes it, with its processor."""
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer")
    MusCALLProcessor(MusCALLFeatureExtractor(window_seconds=1), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def inputs(checkpoint):
    processor = AutoProcessor.from_pretrained(checkpoint, trust_remote_code=True)
    audio = [np.sin(np.arange(40000) / 10), np.random.default_rng(0).normal(size=9000) / 10]
    return processor(text=CAPTIONS, audio=audio, sampling_rate=16000, return_tensors="pt")


# --- log-mel ---------------------------------------------------------------------------------------------------------


def test_log_mel_is_torchaudios():
    waves = build_waves() * torch.tensor([1, 1e-3, 1])[:, None]
    waves[2, 4000:] = 0
    expected = torchaudio.transforms.MelSpectrogram(
        16000, n_fft=1024, hop_length=512, n_mels=128, f_min=0, f_max=8000, normalized=True
    )(waves)
    expected = torchaudio.transforms.AmplitudeToDB(top_db=100)(expected[:, None])[:, 0]
    actual = MusCALLAudioModel(MusCALLAudioConfig(window_seconds=1)).log_mel(waves)
    assert (actual - expected).abs().max() < 1e-4  # dB


def test_log_mel_does_not_depend_on_the_batch(model):
    tone = torch.sin(torch.arange(16000) / 10)[None] / 2
    tone[:, 8000:] = 0
    alone = model.audio_model.log_mel(tone)
    assert alone.max() > 0 and alone.min() == alone.max() - 100  # silence is clamped by the tone, not by a louder clip
    assert torch.equal(model.audio_model.log_mel(torch.cat([build_waves(1) * 100, tone]))[1:], alone)


def test_log_mel_stays_float32(model):
    waves = build_waves()
    expected = model.audio_model.log_mel(waves)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.audio_model.log_mel(waves), expected)
    for dtype in (torch.bfloat16, torch.float16):
        assert torch.equal(build_model().to(dtype).audio_model.log_mel(waves), expected)


# --- audio tower -----------------------------------------------------------------------------------------------------


def test_attention_pool_is_multi_head_attention():
    torch.manual_seed(0)
    config = MusCALLAudioConfig(**AUDIO)
    pool = MusCALLAttentionPool(config)
    torch.nn.init.normal_(pool.position_embedding)
    cells = torch.randn(3, math.prod(config.grid_size), config.trunk_channels)
    tokens = (torch.cat([cells.mean(1, keepdim=True), cells], 1) + pool.position_embedding).transpose(0, 1)
    expected, _ = F.multi_head_attention_forward(
        *(tokens, tokens, tokens, config.trunk_channels, pool.num_heads),
        in_proj_weight=None,
        in_proj_bias=torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0,
        out_proj_weight=pool.out_proj.weight,
        out_proj_bias=pool.out_proj.bias,
        use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
    )
    torch.testing.assert_close(pool(cells), expected[0], atol=1e-5, rtol=1e-5)


def test_folded_batch_norm(model):
    hidden_states = torch.randn(2, 1, 32, 32)
    conv = model.audio_model.stem.conv1
    torch.testing.assert_close(conv(hidden_states), conv.norm(conv.conv(hidden_states)), atol=1e-5, rtol=1e-5)


def test_every_parameter_has_a_gradient():
    """An unused parameter would stop training with DistributedDataParallel: BERT's pooler is one."""
    for kwargs in (
        {},
        {"audio_config": AUDIO | {"pooling": "average"}},
        {"text_config": BERT, "text_pooling": "mean"},
    ):
        model = build_model(**kwargs).train()
        ids = torch.tensor([[5, 6, 49407], [7, 49407, 49407]]) % model.config.text_config.vocab_size
        model(ids, build_waves(2), return_loss=True).loss.backward()
        assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_gradient_checkpointing():
    gradients = []
    for checkpointing in (False, True):
        model = build_model().train()
        if checkpointing:
            model.activation_checkpointing_enable()
        model(torch.tensor([[5, 49407], [6, 49407]]), build_waves(2), return_loss=True).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_compiles_without_graph_breaks(model):
    ids, waves = torch.tensor([[5, 49407], [6, 49407]]), build_waves(2)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(
            compiled(ids, waves).logits_per_audio, model(ids, waves).logits_per_audio, atol=1e-4, rtol=1e-4
        )
    windows, weights = build_waves(4).unflatten(0, (2, 2)), torch.tensor([[1.0, 0.0], [1.0, 0.5]])
    features = torch.compile(model.get_audio_features, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        actual, expected = (run(windows, weights).pooler_output for run in (features, model.get_audio_features))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
    training = build_model().train()
    torch.compile(training, fullgraph=True, backend="aot_eager")(ids, waves, return_loss=True).loss.backward()


@pytest.mark.parametrize("shape", [(2, 15999), (16000,), (2, 3, 8000), (2, 1, 1, 16000)])
def test_audio_of_another_shape(model, shape):
    with pytest.raises(ValueError, match="windows of 1 s at 16000 Hz|must have shape"):
        model.get_audio_features(torch.zeros(shape))


# --- windows ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_windows_are_pooled_by_weight(model):
    waves = build_waves(4)
    each = model.get_audio_features(waves).pooler_output
    weights = torch.tensor([[1.0, 0.25], [1.0, 1.0]])
    pooled = model.get_audio_features(waves.unflatten(0, (2, 2)), weights).pooler_output
    torch.testing.assert_close(pooled[0], F.normalize(each[0] + 0.25 * each[1], dim=0), atol=1e-5, rtol=0)
    torch.testing.assert_close(pooled[1], F.normalize(each[2] + each[3], dim=0), atol=1e-5, rtol=0)
    equal = model.get_audio_features(waves.unflatten(0, (2, 2))).pooler_output
    torch.testing.assert_close(equal[1], pooled[1], atol=1e-5, rtol=0)


@torch.no_grad()
def test_padding_windows_are_not_run(model):
    waves = build_waves(4).unflatten(0, (2, 2)).clone()
    waves[0, 1] = float("nan")
    outputs = model.get_audio_features(waves, torch.tensor([[20.0, 0.0], [20.0, 5.0]]))
    assert outputs.last_hidden_state.shape[0] == 3
    torch.testing.assert_close(
        outputs.pooler_output[0], model.get_audio_features(waves[:1, 0]).pooler_output[0], atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_embedding_does_not_depend_on_batch_or_order(model):
    waves = build_waves(7)
    together = model.get_audio_features(waves).pooler_output
    alone = torch.cat([model.get_audio_features(wave[None]).pooler_output for wave in waves])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        model.get_audio_features(waves.flip(0)).pooler_output.flip(0), together, atol=1e-5, rtol=0
    )


def test_many_windows_run_a_few_at_a_time_without_gradients(model, monkeypatch):
    waves = build_waves(11).unflatten(0, (1, 11))
    weights = torch.linspace(0, 1, 11)[None]
    together = model.get_audio_features(waves, weights)
    monkeypatch.setattr(modeling_muscall, "WINDOWS_AT_ONCE", 3)
    sizes = []
    handle = model.audio_model.register_forward_hook(lambda module, inputs, outputs: sizes.append(len(inputs[0])))
    with torch.no_grad():
        apart = model.get_audio_features(waves, weights)
    handle.remove()
    assert sizes == [3, 3, 3, 1]
    torch.testing.assert_close(apart.pooler_output, together.pooler_output, atol=1e-5, rtol=0)
    torch.testing.assert_close(apart.last_hidden_state, together.last_hidden_state, atol=1e-4, rtol=1e-4)


def test_best_segments(model, checkpoint):
    processor = AutoProcessor.from_pretrained(checkpoint, trust_remote_code=True)
    wave = build_waves(3).flatten()[:40000].numpy()
    segments = model.best_segments("calm piano", wave, processor, sampling_rate=16000, num_segments=9)
    assert sorted((segment["start"], segment["end"]) for segment in segments) == [(0, 1), (1, 2), (1.5, 2.5)]
    scores = [segment["score"] for segment in segments]
    assert scores == sorted(scores, reverse=True)
    inputs = processor(text="calm piano", audio=wave[-16000:], sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        last = (model(**inputs).text_embeds * model(**inputs).audio_embeds).sum().item()
    assert next(segment["score"] for segment in segments if segment["start"] == 1.5) == pytest.approx(last, abs=1e-5)
    assert model.best_segments("calm piano", wave, processor, sampling_rate=16000) == segments[:1]
    short = model.best_segments("calm piano", wave[:4000], processor, sampling_rate=16000)
    assert [(segment["start"], segment["end"]) for segment in short] == [(0, 0.25)]
    with pytest.raises(ValueError, match="one sentence"):
        model.best_segments(["calm piano"], wave, processor, sampling_rate=16000)


def test_weights_without_windows(model):
    with pytest.raises(ValueError, match="window_weights"):
        model.get_audio_features(build_waves(2), torch.ones(2, 1))


# --- text tower and outputs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["eos", "cls", "mean"])
@torch.no_grad()
def test_text_pooling(pooling):
    """Padding never changes an embedding, and each pooling takes the tokens it names."""
    kwargs = {"text_pooling": pooling} if pooling == "eos" else {"text_pooling": pooling, "text_config": BERT}
    model = build_model(**kwargs)
    end = model.config.text_config.eos_token_id if pooling == "eos" else 9
    ids = torch.tensor([[3, 5, 6, end]])
    embeds = model.get_text_features(ids, torch.ones_like(ids)).pooler_output
    padded = model.get_text_features(F.pad(ids, (0, 3), value=end), F.pad(torch.ones_like(ids), (0, 3))).pooler_output
    torch.testing.assert_close(padded, embeds, atol=1e-5, rtol=0)

    hidden_states = model.text_model(ids, torch.ones_like(ids)).last_hidden_state[0]
    expected = {"eos": hidden_states[3], "cls": hidden_states[0], "mean": hidden_states.mean(0)}[pooling]
    torch.testing.assert_close(embeds[0], F.normalize(model.text_projection(expected), dim=0), atol=1e-5, rtol=0)


@torch.no_grad()
def test_outputs(model, inputs):
    outputs = model(**inputs, return_loss=True)
    audio_embeds = model.get_audio_features(inputs.input_values, inputs.window_weights).pooler_output
    text_embeds = model.get_text_features(inputs.input_ids, inputs.attention_mask).pooler_output
    assert torch.equal(outputs.audio_embeds, audio_embeds) and torch.equal(outputs.text_embeds, text_embeds)
    torch.testing.assert_close(audio_embeds.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(outputs.logits_per_audio, audio_embeds @ text_embeds.t() / 0.07)
    assert torch.equal(outputs.logits_per_text, outputs.logits_per_audio.t())
    assert model(**inputs, return_dict=False)[0].shape == (2, 2)
    with pytest.raises(ValueError, match="one text per audio, got 1 texts and 2 audio"):
        model(inputs.input_ids[:1], inputs.input_values, window_weights=inputs.window_weights, return_loss=True)


def test_contrastive_loss_counts_both_directions():
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    rows = [-math.log(logits[i, i].exp() / logits[i].exp().sum()) for i in range(5)]
    columns = [-math.log(logits[i, i].exp() / logits[:, i].exp().sum()) for i in range(5)]
    assert contrastive_loss(logits).item() == pytest.approx((sum(rows) + sum(columns)) / 10, rel=1e-5)
    assert contrastive_loss(torch.zeros(5, 5)).item() == pytest.approx(math.log(5))


def test_logit_scale_is_clamped():
    model = build_model()
    model.logit_scale.data.fill_(10)
    assert model.scale_similarity(torch.ones(())).item() == pytest.approx(100)


# --- saving and loading ----------------------------------------------------------------------------------------------

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
    processor = MusCALLProcessor(
        MusCALLFeatureExtractor(window_seconds=1), CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer")
    )
    inputs = processor(text=CAPTIONS, audio=torch_waves, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits_per_audio
    for outputs in torch.load(tmp_path / "out"):
        assert torch.equal(outputs["logits"], logits)
        assert torch.equal(outputs["values"], inputs.input_values) and torch.equal(outputs["ids"], inputs.input_ids)
        assert torch.equal(outputs["mel"], model.audio_model.log_mel(inputs.input_values[0]))


def test_folder_is_complete(checkpoint):
    expected = {"config.json", "configuration_muscall.py", "model.safetensors", "modeling_muscall.py"}
    expected |= {"processing_muscall.py", "processor_config.json", "tokenizer.json", "tokenizer_config.json"}
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


@pytest.mark.parametrize("name", ["audio_projection.weight", "audio_model.blocks.0.conv1.norm.running_var"])
def test_checkpoint_with_nan(checkpoint, tmp_path, name):
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    state = load_file(checkpoint / "model.safetensors")
    state[name].view(-1)[3] = float("nan")
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
    ("spoil", "symptoms"),
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
def test_what_a_checkpoint_suffers_from_is_said_as_it_loads(tmp_path, caplog, spoil, symptoms):
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
    model = MusCALLModel(MusCALLConfig(text_config=sizes, projection_dim=64))
    with torch.no_grad():
        train_a_little(model)
        spoil(model)
    model.save_pretrained(tmp_path)
    MusCALLModel.from_pretrained(tmp_path)
    warnings = [record.getMessage() for record in caplog.records if "does not look usable" in record.getMessage()]
    assert len(warnings) == len(symptoms)
    assert all(symptom in warning for symptom, warning in zip(symptoms, warnings, strict=True))


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


def test_t5_encoder():
    """Of an encoder-decoder only the encoder becomes the text tower."""
    t5 = {"model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4, "vocab_size": 99}
    model = build_model(text_config=t5, text_pooling="mean")
    assert model.get_text_features(torch.tensor([[5, 6, 1]])).pooler_output.shape == (1, 16)


def test_audio_tower_does_not_load_from_a_full_checkpoint_in_silence(checkpoint):
    with pytest.raises(ValueError, match="missing keys"):
        MusCALLAudioModel.from_pretrained(checkpoint)


def test_zero_shot_pipeline(checkpoint, model):
    classify = pipeline("zero-shot-audio-classification", model=str(checkpoint), trust_remote_code=True)
    wave = build_waves(1)[0].numpy()
    answer = classify(wave, candidate_labels=["piano", "samba"], hypothesis_template="A {} track")
    assert {row["label"] for row in answer} == {"piano", "samba"}
    assert sum(row["score"] for row in answer) == pytest.approx(1)
