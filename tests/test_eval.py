# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""eval.py from the command line to its result file, on tones; and the parts of it that have a number to meet."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from accelerate.state import AcceleratorState
from helpers import RATE, make_sentence_model, save_model
from huggingface_hub import ModelCard
from transformers import BertConfig, ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor, CLIPTokenizer

import eval as evaluation_program
import muscall.evaluation.embedding
from modeling_muscall import MusCALLModel
from muscall.encoder import load_encoder
from muscall.evaluation.compare import differences, resample
from muscall.evaluation.diagnostics import diagnose
from muscall.evaluation.presets import PRESETS
from muscall.evaluation.probe import linear_probe
from muscall.evaluation.report import update_card, write_json
from muscall.evaluation.retrieval import pool_metrics, retrieval_metrics
from muscall.evaluation.zero_shot import abstention, choose_labels, label_embeds, tag_thresholds
from processing_muscall import read_audio


ROOT = Path(__file__).parents[1]
NUMBER = re.compile(r"\d+(?:\.\d+)?")
LABELS = {"low": 130, "middle": 310, "high": 740}  # hertz


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """A folder of tones for each label, in one folder a split."""
    folder, random = tmp_path_factory.mktemp("tones"), np.random.default_rng(1)
    for split, size in (("train", 8), ("validation", 4), ("test", 5)):
        for label, hertz in LABELS.items():
            (folder / split / label).mkdir(parents=True)
            for number in range(size):
                time = np.arange(round(random.uniform(2.5, 5) * RATE)) / RATE
                tone = 0.2 * np.sin(2 * np.pi * hertz * random.uniform(0.97, 1.03) * time)
                tone += random.normal(0, 0.02, len(time))
                soundfile.write(folder / split / label / f"{number}.wav", tone, RATE)
    return folder


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """`eval.py` in this process; returns the result and what was on the screen."""
    monkeypatch.chdir(tmp_path)

    def run_main(*arguments, output="result.json"):
        try:
            evaluation_program.main([*map(str, arguments), "--output", output])
        finally:
            AcceleratorState._reset_state(reset_partial_state=True)
        return json.loads(Path(output).read_text()), capsys.readouterr().out

    return run_main


@torch.no_grad()
def test_retrieval_is_the_metric_of_the_model_on_whole_tracks(run, model, corpus):
    result, screen = run("--model", model, "--dataset", corpus, "--num_resamples", 50, "--pool", 20, "--seeds", 3)
    encoder = load_encoder(model)
    rows = [json.loads(line) for line in (corpus / "test" / "metadata.jsonl").read_text().splitlines()]
    audio = torch.cat(
        [
            encoder.model.get_audio_features(
                **encoder.processor(audio=str(corpus / "test" / row["file_name"]), return_tensors="pt")
            ).pooler_output
            for row in rows
        ]
    )
    inputs = encoder.processor(text=[row["caption"] for row in rows], return_tensors="pt")
    text = encoder.model.get_text_features(**inputs).pooler_output
    expected = retrieval_metrics(text, np.arange(len(rows)), audio)
    for name in ("text_to_audio_R@10", "audio_to_text_R@10"):
        assert result["metrics"][name] == pytest.approx(expected[name], abs=5)  # equal captions tie exactly in eval.py
    assert len(result["queries"]["text_to_audio"]) == len(rows) == result["num_tracks"]
    assert result["metrics"]["text_to_audio_R@10_interval"][0] < result["metrics"]["text_to_audio_R@10"]
    assert result["pool"]["size"] == 20 and len(result["pool"]["metrics"]["mean_R@10"]) == 2
    keys = {"checkpoint_sha256", "fingerprint", "versions", "command", "seconds", "protocol", "diagnostics", "chance"}
    assert keys <= result.keys() and result["protocol"]["windows"] == "all"
    assert "text to audio R@10, 3 pools of 20" in screen and "chance" in screen and "[" in screen


def test_embeddings_come_from_the_cache_and_are_never_stale(run, model, corpus, tmp_path, monkeypatch):
    data = shutil.copytree(corpus / "test", tmp_path / "data")
    arguments = ("--model", model, "--dataset", data, "--num_resamples", 0)
    first, _ = run(*arguments)
    computed = []
    embed = muscall.evaluation.embedding.embed

    def counting(encoder, kind, items, *rest):
        computed.append((kind, len(items)))
        return embed(encoder, kind, items, *rest)

    monkeypatch.setattr("muscall.evaluation.embedding.embed", counting)
    again, _ = run(*arguments)
    assert computed == [] and again["metrics"] == first["metrics"] and again["fingerprint"] == first["fingerprint"]
    samples, _ = soundfile.read(data / "3.flac")
    soundfile.write(data / "3.flac", samples[::-1], RATE)
    changed, _ = run(*arguments)
    assert computed == [("audio", 48)] and changed["fingerprint"] != first["fingerprint"]
    run(*arguments, "--windows", 1)
    texts = len({json.loads(line)["caption"] for line in (data / "metadata.jsonl").read_text().splitlines()})
    assert computed[1:] == [("audio", 48), ("text", texts)]
    other = save_model(tmp_path / "other", seed=1)
    before = len(computed)
    result, _ = run("--model", other, "--dataset", data, "--num_resamples", 0)
    assert len(computed) == before + 2 and result["checkpoint_sha256"] != first["checkpoint_sha256"]


@pytest.mark.slow
def test_batch_sizes_and_processes_agree(model, corpus, tmp_path):
    screens = []
    for processes, size in ((1, 1), (1, 7), (1, 64), (2, 5)):
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if processes == 2 else []
        command = [sys.executable, *launcher, str(ROOT / "eval.py"), "--model", str(model), "--dataset", str(corpus)]
        command += ["--batch_size", str(size), "--output", str(tmp_path / "result.json"), "--num_resamples", "200"]
        environment = {**os.environ, "HF_HOME": str(tmp_path / f"{processes}-{size}")}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        screens.append(done.stdout)
    assert "mean rank" in screens[0]
    words = [re.sub(r"[-\s]+", " ", NUMBER.sub("0", screen)) for screen in screens]
    assert words == [words[0]] * 4
    # Two tracks that score alike but for rounding may change places, which moves a rank of some query by one.
    numbers = [[float(number) for number in NUMBER.findall(screen)] for screen in screens]
    np.testing.assert_allclose(numbers, [numbers[0]] * 4, rtol=0.05)


@torch.no_grad()
def test_classification_is_the_mean_of_the_prompts(run, model, tones):
    arguments = ("--model", model, "--task", "zeroshot", "--dataset", tones, "--num_resamples", 20)
    result, screen = run(*arguments, "--prompts", "label", "track", "--validation_split", "validation")
    assert result["labels"] == sorted(LABELS) and result["protocol"]["prompts"] == ["{}", "A {} track"]
    encoder = load_encoder(model)
    prompts = [[template.format(label) for label in sorted(LABELS)] for template in ("{}", "A {} track")]
    text = torch.stack(
        [encoder.text_features(**dict(encoder.processor(text=row, return_tensors="pt"))) for row in prompts]
    )
    classes = torch.nn.functional.normalize(text.mean(0), dim=-1)
    right = 0
    for index, label in enumerate(sorted(LABELS)):
        files = [str(path) for path in sorted((tones / "test" / label).iterdir())]
        audio = encoder.audio_features(**dict(encoder.processor(audio=files, return_tensors="pt")))
        right += int((audio @ classes.T).argmax(1).eq(index).sum())
    assert result["metrics"]["accuracy"] == pytest.approx(100 * right / 15)
    assert result["chance"]["accuracy"] == pytest.approx(100 / 3)
    assert set(result["prompts"]) == {"{}", "A {} track"} and "prompt 'A {} track' alone" in screen
    assert np.sum(result["metrics"]["confusion"]) == 15 and {"threshold", "answered"} <= result["abstention"].keys()


def test_tagging(run, model, corpus, tmp_path):
    rows = [json.loads(line) for line in (corpus / "test" / "metadata.jsonl").read_text().splitlines()]
    words = ("low", "deep", "pure", "rich", "silent")
    for row in rows:
        row["file_name"] = str(corpus / "test" / row["file_name"])
        caption = row.pop("caption")
        row["tags"] = [word for word in words if word in caption]
    for split, part in (("validation", rows[:24]), ("test", rows[24:])):
        (tmp_path / "data" / split).mkdir(parents=True)
        lines = "".join(json.dumps(row) + "\n" for row in part)
        (tmp_path / "data" / split / "metadata.jsonl").write_text(lines)
    arguments = ("--model", model, "--task", "zeroshot", "--dataset", tmp_path / "data", "--labels", *words)
    result, screen = run(
        *arguments, "--num_resamples", 20, "--validation_split", "validation", "--per_query", "q.jsonl"
    )
    metrics = result["metrics"]
    assert metrics["undefined"] == ["silent"] and metrics["per_label"]["silent"]["roc_auc"] is None
    defined = [metrics["per_label"][word]["roc_auc"] for word in words[:4]]
    assert metrics["roc_auc"] == pytest.approx(np.mean(defined))
    assert result["tagging_with_thresholds"]["without_example"] == ["silent"] and "undefined" in screen
    for word in metrics["at_or_below_chance"]:
        assert f"{word} (at or below chance)" in screen
    lines = [json.loads(line) for line in Path("q.jsonl").read_text().splitlines()]
    assert len(lines) == 24 and set(lines[0]["scores"]) == set(words)


def test_probe_hears_tones(run, model, tones):
    result, _ = run("--model", model, "--task", "probe", "--dataset", tones, "--num_resamples", 20)
    assert result["metrics"]["accuracy"] > 80 and result["c"] in (0.001, 0.01, 0.1, 1.0, 10.0)


def test_probe_chooses_its_penalty_on_the_validation_split_alone():
    random = np.random.default_rng(0)
    centres = 3 * random.normal(size=(3, 6))
    references = {name: random.integers(3, size=60) for name in ("train", "validation", "reported")}
    splits = {name: (centres[truth] + random.normal(size=(60, 6)), truth) for name, truth in references.items()}
    probe = linear_probe(splits, ["a", "b", "c"], 10)
    assert probe["metrics"]["accuracy"] > 90
    other = {**splits, "reported": (splits["reported"][0], (splits["reported"][1] + 1) % 3)}
    assert linear_probe(other, ["a", "b", "c"], 10)["c"] == probe["c"]
    tags = {
        name: (rows, np.stack([truth == 0, truth == 1], axis=1).astype(int)) for name, (rows, truth) in splits.items()
    }
    tags["train"][1][:5, 0] = -1
    assert linear_probe(tags, ["a", "b"], 0)["metrics"]["roc_auc"] > 0.95


def make_clap(folder, fused):
    sizes = {"patch_embeds_hidden_size": 8, "hidden_size": 64, "depths": [1] * 4, "num_attention_heads": [1, 1, 2, 2]}
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    text |= {"vocab_size": 49408, "max_position_embeddings": 90}
    config = ClapConfig(text_config=text, audio_config={**sizes, "enable_fusion": fused}, projection_dim=16)
    torch.manual_seed(0)
    ClapModel(config).save_pretrained(folder)
    extractor = ClapFeatureExtractor(truncation="fusion" if fused else "rand_trunc")
    ClapProcessor(extractor, CLIPTokenizer.from_pretrained(ROOT / "clip_tokenizer")).save_pretrained(folder)
    return folder


@torch.no_grad()
@pytest.mark.parametrize("fused", [False, True])
def test_clap_hears_whole_tracks_and_always_the_same(tmp_path, fused):
    """Its own feature extractor takes a random part of a long track, and fuses a random item of a batch."""
    encoder = load_encoder(make_clap(tmp_path / "clap", fused))
    path = tmp_path / "noise.wav"
    noise = np.random.default_rng(0).normal(0, 0.1, 25 * 16000)
    soundfile.write(path, noise, 16000)
    tracks = [{"path": str(path), "bytes": None, "sampling_rate": None}] * 2
    first, second = (encoder.audio_features(**encoder.collate_audio(tracks)) for _ in range(2))
    assert torch.equal(first, second) and torch.allclose(first[0], first[1], atol=1e-6)
    samples = read_audio(str(path), 48000)
    windows = [samples[:480000], samples[480000:960000], samples[-480000:]]
    parts = []
    for window in windows:
        features = encoder.processor.feature_extractor(window, sampling_rate=48000, return_tensors="pt")
        features["is_longer"] = torch.zeros(1, 1, dtype=torch.bool)
        parts.append(encoder.model.get_audio_features(**features).pooler_output)
    mean = torch.nn.functional.normalize(10 * parts[0] + 10 * parts[1] + 5 * parts[2], dim=-1)
    torch.testing.assert_close(first[:1], mean, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_baselines_stand_in_the_same_table(run, model, corpus, tmp_path):
    rows = (corpus / "test" / "metadata.jsonl").read_text().splitlines()
    data = shutil.copytree(corpus / "test", tmp_path / "data")
    rows = [json.loads(row) for row in rows]
    (data / "metadata.jsonl").write_text("".join(json.dumps({**row, "tags": row["caption"]}) + "\n" for row in rows))
    sentences = make_sentence_model(tmp_path)
    clap, other = make_clap(tmp_path / "clap", False), save_model(tmp_path / "plain", seed=3)
    arguments = ("--model", model, "--dataset", data, "--baselines", other, clap, "--metadata_column", "tags")
    result, screen = run(*arguments, "--sentence_model_name_or_path", sentences, "--num_resamples", 50)
    assert set(result["baselines"]) == {"plain", "clap", "text only: tags"}
    reads = result["baselines"]["text only: tags"]
    assert reads["metrics"]["text_to_audio_R@10"] > result["metrics"]["text_to_audio_R@10"]  # it reads the captions
    found = reads["model_less_baseline"]["mean_R@10"]
    assert found["difference"] == pytest.approx(found["values"][0] - found["values"][1])
    assert found["interval"][1] < 0 and "mean R@10 of the model less that of text only: tags" in screen


def test_comparing_is_paired(run, model, corpus, tones, tmp_path, capsys):
    one, _ = run("--model", model, "--dataset", corpus, output="one.json")
    other, _ = run("--model", save_model(tmp_path / "b", seed=5), "--dataset", corpus, output="other.json")
    found = differences(one, other, 100)["text_to_audio_R@5"]
    hits = [np.array(result["queries"]["text_to_audio"])[:, 3] for result in (one, other)]
    draws = np.random.default_rng(0)
    naive = [100 * (hits[0] - hits[1])[draws.integers(48, size=48)].mean() for _ in range(100)]
    np.testing.assert_allclose(found["interval"], np.percentile(naive, (2.5, 97.5)), atol=1e-9)
    same = differences(one, one, 50)
    assert all(entry["difference"] == 0 and entry["interval"] == [0, 0] for entry in same.values())
    evaluation_program.main(["--compare", "one.json", "other.json"])
    assert re.search(r"text to audio R@5 +\d", capsys.readouterr().out)
    run("--model", model, "--dataset", corpus, "--split", "train", output="train.json")
    with pytest.raises(ValueError, match=r"on different tracks.*: one.json is retrieval on .* \[test\].*; train.json"):
        evaluation_program.main(["--compare", "one.json", "train.json"])
    Path("foreign.json").write_text('{"task": "retrieval"}')
    with pytest.raises(ValueError, match=r"foreign.json is no result file of eval.py: it lacks dataset, split"):
        evaluation_program.main(["--compare", "one.json", "foreign.json"])


def test_resamples_of_labels():
    correct = np.random.default_rng(0).integers(2, size=30)
    draws = np.random.default_rng(4)
    expected = [100 * correct[draws.integers(30, size=30)].mean() for _ in range(9)]
    np.testing.assert_allclose(resample({"correct": correct.tolist()}, 9, 4)["accuracy"], expected)
    scores, truth = np.random.default_rng(1).normal(size=(40, 2)), np.zeros((40, 2), int)
    truth[:15, 0] = 1  # the second label is undefined
    samples = resample({"scores": scores.tolist(), "references": truth.tolist()}, 5, 0)
    assert samples["roc_auc"].shape == (5,) and np.isfinite(samples["roc_auc"]).all()


def test_pools_are_seeded_and_have_all_captions_of_their_tracks():
    random = np.random.default_rng(0)
    audio, ids = random.normal(size=(40, 4)), np.repeat(np.arange(40), 2)
    text = np.repeat(audio, 2, axis=0) + random.normal(size=(80, 4))
    found = pool_metrics(text, ids, audio, 10, 3)
    values = []
    for seed in range(3):
        tracks = np.sort(np.random.default_rng(seed).choice(40, 10, replace=False))
        captions = np.concatenate([[2 * track, 2 * track + 1] for track in tracks])
        metrics = retrieval_metrics(text[captions], np.repeat(np.arange(10), 2), audio[tracks])
        values.append(metrics["text_to_audio_R@1"])
    assert found["text_to_audio_R@1"] == pytest.approx((np.mean(values), np.std(values, ddof=1)))


def test_diagnostics_of_spaces_known():
    audio = np.eye(4, dtype=np.float32)
    perfect = diagnose(audio, np.arange(4), audio, ["a"] * 4, np.ones(4))
    assert perfect["audio_similarity"] == perfect["unmatched_similarity"] == 0 and perfect["modality_gap"] == 0
    assert perfect["matched_similarity"] == 1 and perfect["R@10_by_length"] == {"1-5": {"R@10": 100, "captions": 4}}
    collapsed = diagnose(np.ones((3, 1)), np.arange(3), -np.ones((3, 1)), ["a b c d e f"] * 3, np.zeros(3))
    assert collapsed["text_similarity"] == 1 and collapsed["modality_gap"] == 2
    assert collapsed["R@10_by_length"] == {"6-10": {"R@10": 0, "captions": 3}}
    angles = np.concatenate([[0], np.linspace(1, 5, 199)])
    space = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    captions = np.tile([1.0, 0.0], (50, 1))  # all find the same ten tracks
    hubs = diagnose(captions, np.zeros(50, int), space, ["a"] * 50, np.ones(50))
    assert hubs["hubness"] == pytest.approx(20) and hubs["hubness_of_chance"] == 1  # 2 of the 10, where 2 is 1 %


def test_pictures_and_card(run, tmp_path, corpus):
    model = save_model(tmp_path / "mine")
    (model / "README.md").write_text("---\nlicense: apache-2.0\n---\n\n# Mine\n\nText.\n")
    arguments = ("--model", model, "--dataset", corpus, "--num_resamples", 10, "--update_card")
    result, _ = run(*arguments, "--figures", model / "figures")
    run(*arguments, "--figures", model / "figures")
    run(*arguments, "--split", "train")
    card = ModelCard.load(model / "README.md")
    assert card.data.license == "apache-2.0" and card.text.count("figures/map.png") == 1 and "# Mine" in card.text
    mine = [entry for entry in card.data.eval_results if entry.dataset_split == "test"]
    values = {entry.metric_type: entry.metric_value for entry in mine}
    assert len(mine) == len(values) == 15 and len(card.data.eval_results) == 30
    assert values["text_to_audio_R@10"] == pytest.approx(result["metrics"]["text_to_audio_R@10"], abs=1e-4)
    assert mine[0].metric_args["checkpoint_sha256"] == result["checkpoint_sha256"]
    for name in ("similarity", "ranks", "map"):
        assert (model / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="--figures must be a folder within"):
        run(*arguments, "--figures", tmp_path / "elsewhere")


def test_abstention_and_thresholds_by_hand():
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.45, 0.55], [0.48, 0.52]])
    found = abstention(scores, np.array([0, 0, 0, 1]), scores, np.array([0, 1, 0, 1]), 1.0)
    # Right, right, wrong, right by falling confidence: two answers gain as much as all four; the first best is taken.
    assert found["answered"] == 50 and found["accuracy_of_answers"] == 50 and found["accuracy_of_all"] == 50
    never = abstention(scores[:1], np.array([1]), scores, np.array([0, 1, 0, 1]), 1.0)
    assert never["answered"] == 0 and never["accuracy_of_answers"] is None
    tags = np.array([[0.9], [0.8], [0.3], [0.2]])
    truth = np.array([[1], [0], [1], [0]])
    found = tag_thresholds(tags, truth, tags, truth, ["a"])
    assert found["thresholds"] == {"a": 0.3} and found["f1"]["a"] == pytest.approx(0.8)
    assert found["tracks_without_tag"] == 25
    skipped = tag_thresholds(tags, 0 * truth, tags, truth, ["a"])
    assert skipped["without_example"] == ["a"] and skipped["macro_f1"] is None


def test_labels_are_the_mean_of_their_prompts():
    prompts = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    np.testing.assert_allclose(label_embeds(prompts), [[0.5**0.5, 0.5**0.5]])


class Rows(dict):
    column_names = ("labels",)


@pytest.mark.parametrize(
    ("labels", "phrases", "multi_label", "message"),
    [
        (["rock", "jazz", "rock"], {}, False, "labels must differ from each other, got more than once: rock"),
        (["rock", "jazz"], {"rock": "Jazz"}, False, "as a prompt words them must differ.*: jazz"),
        (["jazz", "folk"], {}, False, "labels that are not among those given: rock"),
        (["rock"], {}, False, "classification needs at least two labels|not among those given"),
    ],
)
def test_label_sets_that_cannot_be_told_apart(labels, phrases, multi_label, message):
    with pytest.raises(ValueError, match=message):
        choose_labels([Rows(labels=[["rock"], ["jazz"]])], labels, phrases, multi_label)


def test_bad_input(run, model, corpus, tones, tmp_path):
    with pytest.raises(ValueError, match="has no split 'tset'. Its splits: test, train, validation. Name one"):
        run("--model", model, "--dataset", corpus, "--split", "tset")
    with pytest.raises(ValueError, match="pool must be between 1 and the 48 tracks there are, got 1000"):
        run("--model", model, "--dataset", corpus, "--pool", 1000)
    with pytest.raises(ValueError, match=r"has no label column \(label, labels, genre"):
        run("--model", model, "--dataset", corpus, "--task", "zeroshot")
    with pytest.raises(ValueError, match="has no caption column|has no metadata.jsonl"):
        run("--model", model, "--dataset", tones)
    with pytest.raises(ValueError, match="a prompt is a text with one {}"):
        run("--model", model, "--dataset", tones, "--task", "zeroshot", "--prompts", "music")
    with pytest.raises(ValueError, match="the split 'test' is reported: nothing may be fitted to it or chosen on it"):
        run("--model", model, "--dataset", tones, "--task", "probe", "--train_split", "test")
    with pytest.raises(ValueError, match="--pool is not for --task probe"):
        run("--model", model, "--dataset", tones, "--task", "probe", "--pool", 5)
    with pytest.raises(ValueError, match="--preset must be one of gtzan"):
        run("--model", model, "--preset", "gtsan")
    with pytest.raises(ValueError, match="--preset fma_small needs --dataset, the folder it is in"):
        run("--model", model, "--preset", "fma_small")
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="holds a 'bert' model: expected a dual encoder of audio and text"):
        run("--model", tmp_path / "bert", "--dataset", corpus)
    data = shutil.copytree(corpus / "test", tmp_path / "data")
    (data / "7.flac").unlink()
    with pytest.raises((ValueError, OSError), match=r"7\.flac"):
        run("--model", model, "--dataset", data)
    broken = save_model(tmp_path / "broken")
    weights = MusCALLModel.from_pretrained(broken)
    weights.audio_projection.weight.data.fill_(torch.finfo(torch.float32).max)  # finite, but its outputs are not
    weights.save_pretrained(broken)
    with pytest.raises(ValueError, match=r"embeds 48 of 48 items as NaN or Inf, the first .*\.flac"):
        run("--model", broken, "--dataset", corpus)


def test_a_preset_through_eval(run, model, tmp_path):
    """A copy of MagnaTagATune of six clips, one tag each."""
    random, tags = np.random.default_rng(0), list(PRESETS["magnatagatune"].labels)
    (tmp_path / "mtt" / "d").mkdir(parents=True)
    lines = ["\t".join(["clip_id", *tags, "mp3_path"])]
    for number in range(6):
        path = tmp_path / "mtt" / "d" / f"{number}.mp3"
        soundfile.write(path, random.normal(0, 0.1, 3 * 16000), 16000, format="MP3")
        values = ["1" if tag == ("guitar", "flute")[number % 2] else "0" for tag in tags]
        lines.append("\t".join([str(number), *values, f"d/{number}.mp3"]))
    (tmp_path / "mtt" / "annotations_final.csv").write_text("\n".join(lines) + "\n")
    result, screen = run("--model", model, "--preset", "magnatagatune", "--dataset", tmp_path / "mtt")
    metrics = result["metrics"]
    assert result["num_tracks"] == 6 and len(metrics["undefined"]) == 48
    assert metrics["per_label"]["flute"]["positives"] == 3
    assert result["protocol"]["prompts"] == list(PRESETS["magnatagatune"].prompts) and "\nflute" in screen


def test_results_are_whole_or_absent(tmp_path):
    write_json(tmp_path / "new" / "a.json", {"task": "x", "queries": {"a": [1, 2]}})
    assert json.loads((tmp_path / "new" / "a.json").read_text()) == {"task": "x", "queries": {"a": [1, 2]}}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]


def test_card_keeps_what_others_measured(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("---\nlicense: mit\n---\n\nText.\n")
    base = {"model": "m", "split": "test", "protocol": {}, "checkpoint_sha256": "0"}
    update_card(path, {**base, "task": "zeroshot", "dataset": "gtzan", "metrics": {"accuracy": 50.0}}, [])
    update_card(
        path, {**base, "task": "zeroshot", "dataset": "fma", "metrics": {"accuracy": 40.0, "num_tracks": 3}}, []
    )
    update_card(path, {**base, "task": "zeroshot", "dataset": "gtzan", "metrics": {"accuracy": 60.0}}, [])
    entries = {entry.dataset_name: entry.metric_value for entry in ModelCard.load(path).data.eval_results}
    assert entries == {"gtzan": 60.0, "fma": 40.0}


def test_captions_without_audio_and_audio_without_captions(run, model, corpus, tmp_path):
    good = {"file_name": str(corpus / "test" / "0.flac"), "caption": "low"}
    cases = (
        ({**good, "file_name": None}, "has neither a path nor bytes"),
        ({**good, "caption": " "}, "none of them empty"),
    )
    for number, (row, message) in enumerate(cases):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
        with pytest.raises(ValueError, match=f"row 1: .*{message}"):
            run("--model", model, "--dataset", path)


def test_fewer_tracks_than_ten(run, model, corpus, tmp_path):
    rows = [{"file_name": str(corpus / "test" / f"{number}.flac"), "caption": f"tone {number}"} for number in range(3)]
    (tmp_path / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result, screen = run("--model", model, "--dataset", tmp_path / "few.jsonl", "--num_resamples", 0)
    assert result["metrics"]["text_to_audio_R@10"] == result["chance"]["text_to_audio_R@10"] == 100
    assert "Among 3 tracks R@10 is 100 % whatever the model does" in screen
