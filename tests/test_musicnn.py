# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The musicnn tower against the pretrained taggers, against itself written plainly, and inside a full model."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
import torch.nn.functional as F
import torchaudio
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

import train
from configuration_muscall import MusCALLConfig, MusCALLMusicnnConfig
from modeling_muscall import MusCALLModel, MusCALLMusicnnModel
from muscall.training.objectives import ContrastiveObjective
from scripts import export_onnx
from scripts.convert_musicnn import read_taggers
from scripts.open_mix.captions import phrases_of, tag_clips
from scripts.open_mix.tag_baseline import USUAL, build_tag_baseline, embed_sentences


ROOT = Path(__file__).parents[1]
EXPECTED = Path(__file__).parent / "musicnn_features.npz"
SMALL = {"window_seconds": 4, "num_filters": 3, "num_middle_filters": 5, "feature_size": 7}
TEXT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}


def make_sound() -> np.ndarray:
    """10 s at 16 kHz: a falling scale over a beat, and noise that comes and goes; the fixture was made of it."""
    time = np.arange(160000) / 16000
    hertz = 880 * 2 ** (-(np.floor(2 * time) % 12) / 12)
    tone = sum(np.sin(2 * np.pi * overtone * hertz * time) / overtone for overtone in (1, 2, 3))
    beat = np.sin(2 * np.pi * 90 * time) * np.exp(-12 * (2 * time % 1))
    noise = np.random.default_rng(0).standard_normal(len(time)) * (time % 3 < 1)
    return (0.2 * tone + 0.4 * beat + 0.05 * noise).astype(np.float32)


def make_tower(seed=0, **changes) -> MusCALLMusicnnModel:
    """A small tower with statistics and scales of either sign, as after training."""
    torch.manual_seed(seed)
    tower = MusCALLMusicnnModel(MusCALLMusicnnConfig(**(SMALL | changes)))
    for module in tower.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.weight.data = torch.rand_like(module.weight) * (-1.0) ** torch.arange(len(module.weight))
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return tower.eval()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("musicnn")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, "musicnn==0.1.0"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"the wheel musicnn could not be fetched: {result.stderr.strip()[-200:]}")
    with zipfile.ZipFile(*folder.glob("*.whl")) as archive:
        archive.extractall(folder)
    return folder


@pytest.mark.slow
def test_the_taggers_features(wheel):
    """The expected features and tags are those of the taggers run patch by patch, by another implementation."""
    tower, layers = read_taggers(wheel)
    expected = np.load(EXPECTED)
    sound = torch.from_numpy(make_sound())
    tower.config.window_seconds = 10
    with torch.no_grad():
        features = tower(sound[None]).last_hidden_state[0]
    whole = len(expected["features"])  # the taggers leave out what does not fill a patch
    np.testing.assert_allclose(features[:whole], expected["features"], atol=1e-4)
    for number, (weight, bias, tags) in enumerate(layers):
        assert len(tags) == 50
        probabilities = torch.sigmoid(features[:, 200 * number : 200 * (number + 1)] @ weight + bias)
        np.testing.assert_allclose(
            probabilities[:whole], expected["tags"][:, 50 * number : 50 * (number + 1)], atol=1e-4
        )


@pytest.mark.slow
def test_the_tag_baseline(wheel, tmp_path):
    """Sentences pass as the encoder has them, tracks are the sum of their unusual tags."""
    folder = tmp_path / "train"
    folder.mkdir()
    for number, pitch in enumerate((0.5, 1, 1.5, 2)):
        samples = make_sound()[: 4 * 16000] * pitch * np.sin(np.arange(4 * 16000) * pitch / 9)
        soundfile.write(folder / f"{number}.flac", 0.3 * samples, 16000)
    clips = sorted(folder.glob("*.flac"))
    tags = tag_clips(clips, wheel)
    bert = BertConfig(vocab_size=30, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    torch.manual_seed(0)
    BertModel(bert).save_pretrained(tmp_path / "bert")
    words = Tokenizer(
        models.WordLevel({"[PAD]": 0, "[UNK]": 1, "music": 2, "rock": 3, "slow": 4, "piano": 5}, "[UNK]")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    words.save_pretrained(tmp_path / "bert")
    model, processor = build_tag_baseline(tmp_path, wheel, str(tmp_path / "bert"))
    with torch.no_grad():
        names = F.normalize(
            embed_sentences(model, words, [f"{name.partition(':')[2]} music" for name in tags]), dim=-1
        )
        hidden = embed_sentences(model, words, ["slow piano music", "rock", "rock piano"])
        length = embed_sentences(model, words, ["music", "a piano", "a song about rain"]).norm(dim=-1).mean()
        inputs = processor(text=["slow piano music", "rock", "rock piano"], return_tensors="pt")
        texts = model.get_text_features(**inputs).pooler_output
        torch.testing.assert_close(texts, F.normalize(hidden / length - names.mean(0), dim=-1), atol=1e-5, rtol=0)

        logits = torch.tensor(np.stack(list(tags.values()), 1), dtype=torch.float32).clamp(1e-4, 1 - 1e-4).logit()
        tower, layers = read_taggers(wheel)
        inputs = processor(audio=[str(clips[1])], return_tensors="pt")
        parts = tower(inputs["input_values"].flatten(0, -2)).pooler_output[0].split(200)
        heard = torch.cat([part @ weight + bias for part, (weight, bias, _) in zip(parts, layers, strict=True)])
        unusual = F.gelu((heard - logits.mean(0)) / logits.std(0) - USUAL)
        expected = F.normalize(unusual @ (names - names.mean(0)), dim=-1)
        torch.testing.assert_close(model.get_audio_features(**inputs).pooler_output[0], expected, atol=1e-4, rtol=0)

        # With phrases half of a tag is what people call such music; a tag of which nothing is known stays as it was.
        phrased, _ = build_tag_baseline(tmp_path, wheel, str(tmp_path / "bert"), phrases=True)
        columns = phrased.audio_projection[2].weight.T
        known, unknown = (list(tags).index(tag) for tag in ("MSD:rock", "MSD:beautiful"))
        called = F.normalize(embed_sentences(model, words, phrases_of("MSD:rock")), dim=-1).mean(0)
        expected = F.normalize(names[known] + F.normalize(called, dim=0), dim=0) - names[unknown]
        torch.testing.assert_close(columns[known] - columns[unknown], expected, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_command_line(wheel, tmp_path):
    command = [sys.executable, "-m", "scripts.convert_musicnn", wheel, tmp_path / "tower"]
    assert subprocess.run(command, capture_output=True, cwd=ROOT).returncode == 0
    tower, expected = MusCALLMusicnnModel.from_pretrained(tmp_path / "tower"), read_taggers(wheel)[0]
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tower.state_dict()[name], tensor), name
    result = subprocess.run([*command[:3], tmp_path, tmp_path / "x"], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 2 and "is no unpacked musicnn wheel" in result.stderr


def test_filters_whose_maximum_comes_first_are_those_whose_maximum_comes_last():
    tower = make_tower(num_filters=17).train()  # timbral shapes then have 68, more than are run at once
    spectrogram = torch.randn(3, 1, 96, 187)
    for filters in tower.networks[0].filters:
        filters.norm.eval()  # as in training with --batch_norm frozen
        assert (filters.norm.weight < 0).any() and (filters.norm.weight > 0).any()
        padded = F.pad(spectrogram, filters.padding)
        plain = filters.norm(F.relu(filters.conv(padded))).amax(2)
        assert plain.shape[2] == 187
        outputs = filters(spectrogram)
        torch.testing.assert_close(outputs, plain, atol=1e-5, rtol=1e-5)
        gradients = [torch.autograd.grad(some.square().sum(), [*filters.parameters()]) for some in (outputs, plain)]
        torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-4)


def test_a_constant_input_norm_does_not_learn():
    model = make_model()
    model.audio_model = make_tower()
    objective = ContrastiveObjective(model)
    for batch_norm in (True, False):
        objective.freeze(set(), batch_norm)
        still = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        assert still == (
            {name for name, _ in model.named_parameters() if "input_norm" in name} if batch_norm else set()
        )


def test_patches_cover_the_window_and_the_last_ends_with_it():
    tower = make_tower()
    windows = torch.randn(3, tower.config.window_samples)
    with torch.no_grad():
        outputs = tower(windows)
        assert outputs.last_hidden_state.shape == (3, 2, 14) and outputs.pooler_output.shape == (3, 14)
        frames = tower.config.window_frames
        spectrogram = tower.log_mel(windows)
        for patch, start in ((0, 0), (1, frames - 187)):
            networks = [network(spectrogram[..., start : start + 187]) for network in tower.networks]
            torch.testing.assert_close(outputs.last_hidden_state[:, patch], torch.cat(networks, dim=1))
        share = 187 / frames
        mean = share * outputs.last_hidden_state[:, 0] + (1 - share) * outputs.last_hidden_state[:, 1]
        torch.testing.assert_close(outputs.pooler_output, mean)
        torch.testing.assert_close(tower(windows[1:2]).pooler_output, outputs.pooler_output[1:2])


def test_log_mel_is_that_of_torchaudio():
    sound = torch.from_numpy(make_sound())[None]
    mel = torchaudio.transforms.MelSpectrogram(
        16000, 512, hop_length=256, n_mels=96, pad_mode="constant", norm="slaney", mel_scale="slaney"
    )
    torch.testing.assert_close(
        make_tower(window_seconds=10).log_mel(sound), torch.log10(1 + 1e4 * mel(sound)), atol=1e-5, rtol=1e-5
    )


def test_log_mel_is_in_float32_whatever_the_precision():
    tower, windows = make_tower(), torch.randn(2, 64000)
    expected = tower.log_mel(windows)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tower.log_mel(windows), expected)
    assert torch.equal(tower.to(torch.bfloat16).log_mel(windows), expected)
    assert tower(windows).pooler_output.dtype == torch.bfloat16


def test_gradient_checkpointing():
    gradients = []
    for checkpointing in (False, True):
        tower = make_tower().train()
        if checkpointing:
            tower.activation_checkpointing_enable()
        tower(torch.from_numpy(make_sound())[: 2 * 64000].view(2, -1)).pooler_output.square().sum().backward()
        gradients.append([parameter.grad for parameter in tower.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain, atol=1e-6, rtol=1e-5)


def make_model(**changes) -> MusCALLModel:
    torch.manual_seed(0)
    audio_config = {"model_type": "muscall_musicnn_model", **SMALL}
    config = MusCALLConfig(audio_config=audio_config, text_config=TEXT, projection_dim=16, **changes)
    return MusCALLModel(config)


@pytest.mark.slow
@pytest.mark.parametrize("projection_hidden_size", [None, 24])
@pytest.mark.parametrize("frozen", [True, False])
def test_training_lowers_the_loss(frozen, projection_hidden_size):
    model = make_model(projection_hidden_size=projection_hidden_size)
    model.audio_model = make_tower().requires_grad_(not frozen)
    hertz = torch.tensor([100, 220, 500, 1100, 2500, 5500])
    input_values = torch.sin(2 * torch.pi * hertz[:, None] * torch.arange(64000) / 16000)
    input_ids = torch.randint(1, 99, (6, 5))
    input_ids[:, -1] = model.config.text_config.eos_token_id
    before = {name: tensor.clone() for name, tensor in model.audio_model.named_parameters()}
    optimizer, losses = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3), []
    for _ in range(30 if frozen else 6):
        model.train()
        model.audio_model.train(not frozen)
        loss = model(input_ids=input_ids, input_values=input_values, return_loss=True).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    changed = {name for name, tensor in model.audio_model.named_parameters() if not torch.equal(tensor, before[name])}
    assert not changed if frozen else len(changed) == len(before)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter's about itself
def test_graphs(tmp_path):
    """Compiled without graph breaks, and in onnxruntime, the tower gives the same."""
    model, windows = make_model().eval(), torch.randn(3, 2, 64000)
    model.audio_model = make_tower()
    with torch.no_grad():
        expected = model.get_audio_features(windows).pooler_output
        compiled = torch.compile(model.get_audio_features, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(windows).pooler_output, expected, atol=1e-5, rtol=0)
    export_onnx.export(model, tmp_path, max_tokens=77)
    session = onnxruntime.InferenceSession(tmp_path / "audio_model.onnx")
    inputs = {"input_values": windows.numpy(), "window_weights": np.ones((3, 2), dtype=np.float32)}
    np.testing.assert_allclose(session.run(["audio_embeds"], inputs)[0], expected, atol=1e-5)


@pytest.mark.slow
def test_fresh_process(tmp_path):
    """The saved folder, tower and hidden projection layers and all, gives the same through AutoModel elsewhere."""
    model = make_model(projection_hidden_size=24).eval()
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["audio_config"]["model_type"] == "muscall_musicnn_model"
    torch.save(torch.randn(2, 64000), tmp_path / "sound.pt")
    script = (
        "import sys, torch; from transformers import AutoModel; folder = sys.argv[1]\n"
        "model = AutoModel.from_pretrained(folder, trust_remote_code=True)\n"
        "with torch.no_grad():\n"
        "    outputs = model.get_audio_features(torch.load(folder + '/sound.pt'))\n"
        "torch.save(outputs.pooler_output, folder + '/embeds.pt')"
    )
    result = subprocess.run([sys.executable, "-c", script, tmp_path], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    with torch.no_grad():
        expected = model.get_audio_features(torch.load(tmp_path / "sound.pt")).pooler_output
    torch.testing.assert_close(torch.load(tmp_path / "embeds.pt"), expected)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("window_seconds", 1, "at least one patch of 187 frames"),
        ("window_seconds", float("nan"), "finite"),
        ("hop_length", 1024, "at most n_fft"),
        ("num_networks", 0, "above 0"),
        ("f_min", 9000, "between 0 and f_max"),
        ("num_mel_bins", 2, "at least 3"),
    ],
)
def test_values_out_of_range(field, value, expected):
    with pytest.raises(ValueError, match=f"MusCALLMusicnnConfig: `{field}` must be .*{expected}"):
        MusCALLMusicnnConfig(**{field: value})


def test_an_unknown_tower_is_refused():
    with pytest.raises(ValueError, match="muscall_audio_model or muscall_musicnn_model, got 'clap_audio_model'"):
        MusCALLConfig(audio_config={"model_type": "clap_audio_model"})
    with pytest.raises(ValueError, match="`projection_hidden_size` must be an integer above 0"):
        MusCALLConfig(projection_hidden_size=0)


def test_train_starts_from_a_pretrained_tower(tmp_path):
    tower = make_tower()
    tower.save_pretrained(tmp_path / "tower")
    args = train.ModelArguments(audio_model_name_or_path=str(tmp_path / "tower"), model_config={"text_config": TEXT})
    model, processor = train.build_model(args)
    for name, tensor in tower.state_dict().items():
        assert torch.equal(model.audio_model.state_dict()[name], tensor), name
    assert model.audio_projection.in_features == 14 and processor.feature_extractor.window_seconds == 4
    (tmp_path / "tower" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="is no audio tower: expected one of muscall_audio_model, .* got 'bert'"):
        train.build_model(args)
