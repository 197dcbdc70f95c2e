# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""eval.py from the command line to its result file, on tones."""

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
from helpers import RATE, make_clap, make_sentence_model, save_model
from huggingface_hub import ModelCard
from transformers import BertConfig

import eval as evaluation_program
import muscall.evaluation.embedding
from modeling_muscall import MusCALLModel
from muscall.encoder import load_encoder
from muscall.evaluation.compare import differences
from muscall.evaluation.presets import PRESETS
from muscall.evaluation.retrieval import retrieval_metrics


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
def test_batch_sizes_and_processes_agree(run, model, corpus, tmp_path, monkeypatch):
    arguments, screens = ["--model", str(model), "--dataset", str(corpus), "--num_resamples", "200"], []
    for size in (1, 64):
        monkeypatch.setattr("muscall.evaluation.embedding.CACHE", tmp_path / str(size))
        screens.append(run(*arguments, "--batch_size", size)[1])
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [sys.executable, "-m", *launcher, ROOT / "eval.py", *arguments, "--batch_size", "7"]
    command += ["--output", "result.json"]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    screens.append(done.stdout)
    assert "mean rank" in screens[0]
    words = [re.sub(r"[-\s]+", " ", NUMBER.sub("0", screen)) for screen in screens]
    assert words == [words[0]] * 3
    # Two tracks that score alike but for rounding may change places, which moves a rank of some query by one.
    numbers = [[float(number) for number in NUMBER.findall(screen)] for screen in screens]
    np.testing.assert_allclose(numbers, [numbers[0]] * 3, rtol=0.05)


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
    assert result["protocol"]["calibration"].startswith("none: the metrics of tagging rank tracks for each tag")
    assert result["tagging_with_thresholds"]["without_example"] == ["silent"] and "undefined" in screen
    for word in metrics["at_or_below_chance"]:
        assert f"{word} (at or below chance)" in screen
    lines = [json.loads(line) for line in Path("q.jsonl").read_text().splitlines()]
    assert len(lines) == 24 and set(lines[0]["scores"]) == set(words)


def test_calibrated_rows_stand_beside_raw_ones_unless_switched_off(run, model, corpus):
    arguments = ("--model", model, "--dataset", corpus, "--num_resamples", 20)
    result, screen = run(*arguments)
    name = f"{Path(model).name} (calibrated)"
    calibrated = result["baselines"][name]["metrics"]
    assert calibrated["text_to_audio_R@10"] == pytest.approx(result["metrics"]["text_to_audio_R@10"])
    assert calibrated["audio_to_text_MRR"] != result["metrics"]["audio_to_text_MRR"]
    assert name in screen and result["protocol"]["calibration"].startswith("rows called (calibrated): cosines less")
    plain, screen = run(*arguments, "--no_calibrate")
    assert plain["metrics"] == result["metrics"] and plain["baselines"] == {}
    assert "calibration: none: switched off" in screen


def test_small_pools_and_probes_are_not_calibrated(run, model, tones):
    arguments = ("--model", model, "--dataset", tones, "--num_resamples", 0)
    zeroshot, _ = run(*arguments, "--task", "zeroshot")
    assert zeroshot["protocol"]["calibration"].startswith("none: 15 tracks are too few") and not zeroshot["baselines"]
    larger, _ = run(*arguments, "--task", "zeroshot", "--split", "train")
    assert "accuracy" in larger["baselines"][f"{Path(model).name} (calibrated)"]["metrics"]
    probe, _ = run(*arguments, "--task", "probe")
    assert probe["protocol"]["calibration"] == "none: a probe compares tracks with no texts"


def test_probe_hears_tones(run, model, tones):
    result, _ = run("--model", model, "--task", "probe", "--dataset", tones, "--num_resamples", 20)
    assert result["metrics"]["accuracy"] > 80 and result["c"] in (0.001, 0.01, 0.1, 1.0, 10.0)


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
    names = {"plain", "clap", "text only: tags"}
    calibrated = {f"{name} (calibrated)" for name in (*names, Path(model).name)}
    assert set(result["baselines"]) == names | calibrated
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--dataset", "CORPUS", "--split", "tset"),
            "has no split 'tset'. Its splits: test, train, validation. Name one",
        ),
        (("--dataset", "CORPUS", "--pool", 1000), "pool must be between 1 and the 48 tracks there are, got 1000"),
        (("--dataset", "CORPUS", "--task", "zeroshot"), r"has no label column \(label, labels, genre"),
        (("--dataset", "TONES"), "has no caption column|has no metadata.jsonl"),
        (("--dataset", "TONES", "--task", "zeroshot", "--prompts", "music"), "a prompt is a text with one {}"),
        (
            ("--dataset", "TONES", "--task", "probe", "--train_split", "test"),
            "the split 'test' is reported: nothing may be fitted to it or chosen on it",
        ),
        (("--dataset", "TONES", "--task", "probe", "--pool", 5), "--pool is not for --task probe"),
        (("--preset", "gtsan"), "--preset must be one of gtzan"),
        (("--preset", "fma_small"), "--preset fma_small needs --dataset, the folder it is in"),
    ],
)
def test_bad_options(run, model, corpus, tones, arguments, message):
    folders = {"CORPUS": corpus, "TONES": tones}
    with pytest.raises(ValueError, match=message):
        run("--model", model, *(folders.get(argument, argument) for argument in arguments))


def test_a_checkpoint_of_another_kind_is_refused(run, corpus, tmp_path):
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="holds a 'bert' model: expected a dual encoder of audio and text"):
        run("--model", tmp_path / "bert", "--dataset", corpus)


def test_a_missing_file_is_named(run, model, corpus, tmp_path):
    data = shutil.copytree(corpus / "test", tmp_path / "data")
    (data / "7.flac").unlink()
    with pytest.raises((ValueError, OSError), match=r"7\.flac"):
        run("--model", model, "--dataset", data)


def test_embeddings_that_are_not_finite_are_refused(run, corpus, tmp_path):
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
