# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""One folder, and the libraries that open it: they all give the embeddings that the model gives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from datasets import Dataset
from helpers import ROOT, TEACHER, save_model, save_teacher
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoProcessor, pipeline


pytest.importorskip("mteb", reason='mteb is tried with: pip install -e ".[dev]"')

import mteb
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import SentenceTransformerEncoderWrapper

from processing_muscall import read_audio


PRODUCED = sorted((Path(__file__).parents[1] / "corpus" / "produced").glob("*.opus"))
SENTENCES = ["calm solo piano at night", "fast samba", "a long sentence about rock with guitars, bass and drums"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="module")
def tracks(tmp_path_factory):
    """Real music of three lengths, rates and numbers of channels, in three formats."""
    folder, paths = tmp_path_factory.mktemp("tracks"), []
    kinds = ((48000, 9, "wav"), (24000, 3.3, "ogg"), (16000, 1, "flac"))
    for source, (rate, seconds, suffix) in zip(PRODUCED[:30:10], kinds, strict=True):
        mono = read_audio(source, rate, duration=seconds)
        paths.append(str(folder / f"track {len(paths)}.{suffix}"))
        soundfile.write(paths[-1], np.stack([mono, 0.5 * mono], axis=1) if suffix == "wav" else mono, rate)
    return paths


@pytest.fixture(scope="module")
def expected(checkpoint, tracks):
    """The embeddings of the sentences and of the whole tracks, as AutoModel and AutoProcessor give them."""
    model = AutoModel.from_pretrained(checkpoint, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(checkpoint, trust_remote_code=True)
    with torch.no_grad():
        outputs = model(**processor(text=SENTENCES, audio=tracks, return_tensors="pt"))
    return outputs.text_embeds.numpy(), outputs.audio_embeds.numpy()


@pytest.fixture(scope="module")
def sentence_transformer(checkpoint):
    return SentenceTransformer(str(checkpoint), trust_remote_code=True, device="cpu")


def as_dict(path):
    samples, rate = soundfile.read(path, dtype="float32")
    return {"array": samples.T, "sampling_rate": rate}


@pytest.mark.parametrize("batch_size", [1, 3])
def test_sentence_transformers(sentence_transformer, expected, tracks, batch_size):
    text = sentence_transformer.encode(SENTENCES, batch_size=batch_size)
    audio = sentence_transformer.encode(tracks, batch_size=batch_size)
    np.testing.assert_allclose(text, expected[0], atol=1e-5)
    np.testing.assert_allclose(audio, expected[1], atol=1e-5)
    similarity = sentence_transformer.similarity(text, audio).numpy()
    np.testing.assert_allclose(similarity, expected[0] @ expected[1].T, atol=1e-5)


def test_sentence_transformers_takes_arrays_and_names_of_modalities(sentence_transformer, expected, tracks):
    arrays = sentence_transformer.encode([as_dict(path) for path in tracks], batch_size=1)
    np.testing.assert_allclose(arrays, expected[1], atol=1e-5)
    for batch_size in (1, 3):
        for sources in (tracks, [Path(path).read_bytes() for path in tracks]):
            named = sentence_transformer.encode([{"audio": source} for source in sources], batch_size=batch_size)
            np.testing.assert_allclose(named, expected[1], atol=1e-5)


def test_sentence_transformers_refuses_what_it_would_get_wrong(sentence_transformer, tracks):
    with pytest.raises(ValueError, match="mixes audio with different sampling rates"):
        sentence_transformer.encode([as_dict(path) for path in tracks])
    with pytest.raises(ValueError, match="needs the sampling rate"):
        sentence_transformer.encode([as_dict(tracks[0])["array"]])
    # A suffix that Sentence-Transformers does not know, and a file that is not there: both reach us as sentences.
    for name in (str(PRODUCED[0]), "no such song.MP3"):
        with pytest.raises(ValueError, match=r"the name of an audio file.*\{\"audio\": path\}"):
            sentence_transformer.encode(["calm solo piano", name])


@pytest.mark.parametrize("batch_size", [1, 3])
def test_zero_shot_pipeline(checkpoint, expected, tracks, batch_size):
    """Whole tracks, the windows of shorter ones padded by the pipeline; what it returns is a softmax."""
    classify = pipeline("zero-shot-audio-classification", model=str(checkpoint), trust_remote_code=True, device="cpu")
    rate = classify.feature_extractor.sampling_rate
    scale = classify.model.scale_similarity(torch.ones(())).item()
    answers = classify(
        [read_audio(path, rate) for path in tracks],
        candidate_labels=["fast", "slow", "jazz"],
        hypothesis_template="A {} track",
        batch_size=batch_size,
    )
    text = classify.tokenizer(["A fast track", "A slow track", "A jazz track"], padding=True, return_tensors="pt")
    with torch.no_grad():
        text_embeds = classify.model.get_text_features(**text).pooler_output
    probabilities = (scale * torch.tensor(expected[1]) @ text_embeds.T).softmax(1)
    for answer, row in zip(answers, probabilities.tolist(), strict=True):
        scores = {entry["label"]: entry["score"] for entry in answer}
        assert scores == pytest.approx(dict(zip(("fast", "slow", "jazz"), row, strict=True)), abs=1e-5)


def test_feature_extraction_pipeline_does_not_fit(checkpoint):
    """It passes text alone, and returns the tokens' states: there is no place in it for an embedding of audio."""
    extract = pipeline("feature-extraction", model=str(checkpoint), trust_remote_code=True, device="cpu")
    with pytest.raises(TypeError, match="input_values"):
        extract("calm solo piano")


class LocalRetrieval(AbsTaskRetrieval):
    """Three tracks and a sentence about each, in memory."""

    audio, relevant = None, {f"s{number}": {f"t{number}": 1} for number in range(3)}

    def load_data(self, **kwargs):
        texts = Dataset.from_list([{"id": f"s{number}", "text": text} for number, text in enumerate(SENTENCES)])
        tracks = Dataset.from_list([{"id": f"t{number}", "audio": audio} for number, audio in enumerate(self.audio)])
        relevant = self.relevant
        if self.metadata.category == "a2t":
            texts, tracks, relevant = tracks, texts, {f"t{number}": {f"s{number}": 1} for number in range(3)}
        split = {"queries": texts, "corpus": tracks, "relevant_docs": relevant, "top_ranked": None}
        self.dataset, self.data_loaded = {"default": {"test": split}}, True


@pytest.mark.slow
@pytest.mark.parametrize("category", ["t2a", "a2t"])
def test_mteb(sentence_transformer, expected, tracks, category):
    metadata = {"name": f"Local{category.upper()}Retrieval", "description": "Three tracks.", "reference": None}
    metadata |= {"dataset": {"path": "local", "revision": "1"}, "type": "Any2AnyRetrieval", "category": category}
    metadata |= {"modalities": ["audio", "text"], "eval_splits": ["test"], "eval_langs": ["eng-Latn"]}
    metadata |= {"main_score": "recall_at_1"}
    name = metadata["name"]
    task = type(name, (LocalRetrieval,), {"metadata": TaskMetadata(**metadata)})()
    task.audio = [{"array": read_audio(path, 16000), "sampling_rate": 16000} for path in tracks]
    model = SentenceTransformerEncoderWrapper(sentence_transformer)
    # mteb reads the modalities from the Hub alone.
    model.mteb_model_meta = model.mteb_model_meta.model_copy(update={"modalities": ["text", "audio"]})
    result = mteb.evaluate(model, task, cache=None, encode_kwargs={"batch_size": 2})
    scores = result[0].scores["test"][0]
    similarity = expected[0] @ expected[1].T
    similarity = similarity if category == "t2a" else similarity.T
    ranks = (similarity >= similarity.diagonal()[:, None]).sum(1)
    assert scores["recall_at_1"] == pytest.approx((ranks == 1).mean(), abs=1e-4)
    assert scores["mrr_at_3"] == pytest.approx((1 / ranks).mean(), abs=1e-4)


IN_A_FRESH_PROCESS = """
import json, sys
import numpy
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoProcessor

checkpoint, texts, audio, folders = json.loads(sys.argv[1])
model = SentenceTransformer(checkpoint, trust_remote_code=True, device="cpu")
model.save("saved")
for number, model in enumerate((model, SentenceTransformer("saved", trust_remote_code=True, device="cpu"))):
    numpy.savez(f"{number}.npz", text=model.encode(texts), audio=model.encode(audio))
for folder in folders:
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    print(type(model).__name__)
    if type(model).__name__ != "MusCALLModel":
        continue
    inputs = AutoProcessor.from_pretrained(folder, trust_remote_code=True)(text="a waltz", return_tensors="pt")
    expected = model.get_text_features(**inputs).pooler_output[0].detach().numpy()
    embeds = SentenceTransformer(folder, trust_remote_code=True, device="cpu").encode("a waltz")
    assert abs(embeds - expected).max() < 1e-5, folder
"""


@pytest.mark.slow
def test_in_a_fresh_process(checkpoint, tracks, expected, tmp_path):
    """
    Sentence-Transformers, of a folder and of what it saved of it; and the released models and a tower by their paths,
    from elsewhere, by an absolute and by relative ones.
    """
    save_teacher(tmp_path / "tower", **TEACHER)
    folders = [str(ROOT), f"{os.path.relpath(ROOT, tmp_path)}/fast/", "tower"]
    arguments = json.dumps([str(checkpoint), SENTENCES, tracks, folders])
    environment = {"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", IN_A_FRESH_PROCESS, arguments]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["MusCALLModel"] * 2 + ["MusCALLMusicnnModel"]
    for number in range(2):
        embeds = np.load(tmp_path / f"{number}.npz")
        np.testing.assert_allclose(embeds["text"], expected[0], atol=1e-5)
        np.testing.assert_allclose(embeds["audio"], expected[1], atol=1e-5)
