# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Audio reading, on small real files of every format that soundfile writes."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr
import torch
from sounds import mp3_frames, music, write

from audio_muscall import AudioReader, read_audio
from processing_muscall import MusCALLFeatureExtractor


@pytest.fixture
def extractor():
    return MusCALLFeatureExtractor(window_seconds=2.0)


def test_every_form_of_the_same_audio_gives_the_same_windows(extractor, tmp_path):
    path = write(tmp_path / "a.wav", music(5, 44100, 2), 44100)
    array = soundfile.read(path, dtype="float32")[0].T  # (channels, samples)

    class Decoder:  # what of torchcodec's AudioDecoder is used; torchcodec needs FFmpeg
        def get_all_samples(self):
            return SimpleNamespace(data=torch.from_numpy(array.copy()), sample_rate=44100)

    stated = [path, str(path), path.read_bytes(), {"path": str(path), "bytes": None}, Decoder()]
    stated += [{"path": "gone.wav", "bytes": path.read_bytes()}, {"array": array, "sampling_rate": 44100}]
    bare = [array, torch.from_numpy(array), np.round(array * 2**15).astype(np.int16), array.mean(axis=0)]
    bare += [array.mean(axis=0).tolist(), array.astype(np.float64)]
    for windows in ("all", 2, "center"):
        batch = extractor(stated + bare, [None] * len(stated) + [44100] * len(bare), windows=windows)["input_values"]
        assert np.abs(batch - batch[:1]).max() < 1e-6
        again = extractor(stated[0], sampling_rate=44100, windows=windows)["input_values"]
        assert np.array_equal(again[0], batch[0])
    listed = extractor([0.5] * 32000, sampling_rate=16000)
    assert listed["input_values"].shape == (1, 1, 32000)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
def test_integer_pcm_is_scaled_as_soundfile_scales_it(extractor, tmp_path, dtype):
    pcm = {"uint8": [0, 128, 255], "int16": [-32768, 0, 32767], "int32": [-(2**31), 0, 2**30]}[dtype]
    pcm = np.array(pcm * 1000, dtype=dtype)
    got = extractor(pcm, sampling_rate=16000)["input_values"][0, 0, : len(pcm)]
    scale = {"uint8": 2**7, "int16": 2**15, "int32": 2**31}[dtype]
    assert np.allclose(got, (pcm.astype(np.float64) - (128 if dtype == "uint8" else 0)) / scale, atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44100, 44101, 48000, 192000])
def test_resampling_keeps_a_tone_and_its_level(extractor, rate):
    time = np.arange(rate * 2) / rate
    got = extractor(0.5 * np.sin(2 * np.pi * 440 * time), sampling_rate=rate)["input_values"][0, 0]
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(32000) / 16000)
    assert np.abs(got - expected)[1000:-1000].max() < 1e-4
    if rate > 18000:  # 9 kHz would alias to 7 kHz
        got = extractor(0.5 * np.sin(2 * np.pi * 9000 * time), sampling_rate=rate)["input_values"][0, 0]
        assert np.abs(got[1000:-1000]).max() < 1e-5  # -94 dB


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8000, 44100, 192000])
def test_channels_are_averaged(extractor, tmp_path, rate, channels):
    samples = music(0.2, rate, channels)
    path = write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    got = extractor(path)
    expected = soxr.resample(samples.astype(np.float32).mean(axis=1), rate, 16000)
    assert got["window_weights"].tolist() == [[pytest.approx(0.2)]]
    assert np.allclose(got["input_values"][0, 0, :3200], expected, atol=1e-5)


SEEKS = [("wav", 44100, {}), ("wav", 44101, {}), ("wav", 8000, {}), ("flac", 96000, {}), ("ogg", 22050, {})]
SEEKS += [("opus", 48000, {}), ("mp3", 44100, {}), ("wav", 16000, {})]
# The lowest bitrates spread MP3's bit reservoir over the most frames.
SEEKS += [("mp3", rate, {"bitrate_mode": mode, "compression_level": 0.99})
          for rate in (44100, 24000) for mode in ("CONSTANT", "VARIABLE")]  # fmt: skip


@pytest.mark.parametrize(("suffix", "rate", "options"), SEEKS)
def test_reading_by_seeking_equals_decoding_it_all(tmp_path, suffix, rate, options):
    path = write(tmp_path / f"a.{suffix}", music(40, rate, 2), rate, **options)
    decoded = soundfile.read(path, dtype="float32")[0].mean(axis=1)
    if (
        options.get("bitrate_mode") == "CONSTANT"
    ):  # too few bits for a length tag; the reader's drops the decoder's delay
        decoded = decoded[529:]
    whole = soxr.resample(decoded, rate, 16000)
    with AudioReader(path, 16000) as reader:
        assert reader.num_samples == len(whole)
        for start in (0, 1, 12345, 160_001, 400_000, reader.num_samples - 20_000):
            part = reader.read(start, start + 32_000)
            assert np.abs(part - whole[start : start + 32_000]).max() < 1e-5
        assert np.abs(reader.read() - whole).max() < 1e-5  # in blocks
    assert np.array_equal(
        read_audio(path.read_bytes(), 16000, start=10.0, duration=2.0), read_audio(path, 16000, 10, 2)
    )


@pytest.mark.parametrize("rate", [24000, 44100])
def test_mp3_without_a_length_has_the_same_samples(tmp_path, rate):
    samples = music(5, rate, 2)
    samples[:rate] *= 1e-3  # the bitrate of the first frames misleads libsndfile
    path = write(tmp_path / "a.mp3", samples, rate, bitrate_mode="VARIABLE", compression_level=0.5)
    whole = read_audio(path, rate)
    path.write_bytes(b"".join(mp3_frames(path.read_bytes())[1:]))
    assert len(soundfile.read(path)[0]) / rate != pytest.approx(5, abs=0.2)
    bare = read_audio(path, rate)
    assert len(bare) / rate == pytest.approx(5, abs=0.2)
    delay = int(np.argmax(np.correlate(bare[2 * rate :][:10_000], whole[2 * rate :][:6000], "valid")))
    assert np.abs(bare[2 * rate + delay :][:20_000] - whole[2 * rate :][:20_000]).max() < 1e-5


def test_samples_come_with_their_rate_in_either_order(extractor):
    """As from soundfile, SciPy and Gradio, whose arrays are (samples, channels), and from torchaudio and librosa."""
    samples = music(2, 44100, 2).astype(np.float32)
    pcm = np.round(samples * 2**15).astype(np.int16)
    expected = extractor(samples.T, sampling_rate=44100)["input_values"]
    pairs = [(samples, 44100), (44100, samples), (samples.T, 44100), (torch.from_numpy(samples.T.copy()), 44100)]
    pairs += [(np.int64(44100), pcm), (pcm, 44100), (44100, samples.mean(axis=1)), (samples, 44100.0)]
    pairs += [[44100, samples], [samples, 44100], (44100, samples.tolist())]
    for pair in pairs:
        assert np.abs(extractor(pair)["input_values"] - expected).max() < 1e-4
    batch = extractor([*pairs, {"array": samples.T, "sampling_rate": 44100}])["input_values"]
    assert np.abs(batch - expected).max() < 1e-4
    with pytest.raises(ValueError, match="is at 44100 Hz but sampling_rate=16000"):
        extractor(pairs[0], sampling_rate=16000)
    mono = extractor((samples[:, 0], samples[:, 1]), sampling_rate=44100)["input_values"]
    assert len(mono) == 2  # two arrays are a batch


def test_channels_in_antiphase_are_named(tmp_path, caplog):
    left = music(1, 44100)[:, 0]
    quiet = np.stack([left, 0.999 * left], axis=1) * 1e-4
    for name, samples, warns in (("a", np.stack([left, -left], axis=1), True), ("b", quiet, False)):
        path = write(tmp_path / f"{name}.wav", samples, 44100)
        caplog.clear()
        assert np.abs(read_audio(path, 44100)).max() < 1e-3
        assert any(f"{name}.wav: the channels cancel" in record.getMessage() for record in caplog.records) == warns


def damaged(kind, tmp_path):
    path = write(tmp_path / f"{kind}.flac", music(1, 8000), 8000)
    data = path.read_bytes()
    path.write_bytes({"noise": b"noise" * 99, "cut": data[: len(data) // 2], "nothing": b""}[kind])
    return path


A = np.zeros(16000, dtype=np.float32)
BAD_AUDIO = {
    "no rate": (lambda _: A, None, "needs the sampling rate it was recorded at"),
    "no rate in a dict": (lambda _: {"array": A}, None, "needs the sampling rate"),
    "zero rate": (lambda _: A, 0, "positive whole number of Hz, got 0"),
    "negative rate": (lambda _: A, -8000, "positive whole number of Hz, got -8000"),
    "infinite rate": (lambda _: A, float("inf"), "got inf"),
    "nan rate": (lambda _: A, float("nan"), "got nan"),
    "fractional rate": (lambda _: A, 44100.5, "got 44100.5"),
    "boolean rate": (lambda _: A, True, "got True"),
    "text rate": (lambda _: A, "44100", "got '44100'"),
    "rates disagree": (lambda _: {"array": A, "sampling_rate": 8000}, 16000, "is at 8000 Hz but sampling_rate=16000"),
    "file disagrees": (lambda tmp: write(tmp / "a.wav", music(1, 8000), 8000), 16000, "a.wav is at 8000 Hz but"),
    "nan": (lambda _: np.array([0.0, np.nan]), 16000, "contains NaN or infinite samples"),
    "infinite": (lambda _: np.array([0.0, -np.inf]), 16000, "contains NaN or infinite samples"),
    "nan in a file": (
        lambda tmp: write(tmp / "a.wav", np.full((9, 1), np.nan), 9000, subtype="FLOAT"),
        None,
        "a.wav cont",
    ),
    "empty": (lambda _: A[:0], 16000, r"not empty, got \(0,\)"),
    "too short": (lambda _: A[:3], 192000, "is empty: 3 samples at 192000 Hz"),
    "no frames": (lambda tmp: write(tmp / "a.wav", np.zeros((0, 1)), 8000), None, "a.wav is empty"),
    "0-d": (lambda _: np.float32(1)[...], 16000, r"got \(\)"),
    "3-d": (lambda _: A.reshape(1, 2, -1), 16000, r"got \(1, 2, 8000\)"),
    "transposed": (lambda _: A.reshape(-1, 2), 16000, r"at most 16 channels, got \(8000, 2\): transpose"),
    "int64": (lambda _: A.astype(int), 16000, "floats in .* or uint8, int16, int32 PCM, got int64"),
    "16 bit as int32": (lambda _: np.arange(16000, dtype=np.int32), 16000, "pass 16-bit samples as int16"),
    "boolean": (lambda _: A > 0, 16000, "got bool"),
    "complex": (lambda _: A + 1j, 16000, "got complex64"),
    "object": (lambda _: A.astype(object), 16000, "got object"),
    "unscaled": (lambda _: A + 20000, 16000, "peak of 20000, .*divide integer PCM"),
    "number": (lambda _: 3, 16000, "audio is a path, .*got int"),
    "none": (lambda _: None, 16000, "audio is a path, .*got NoneType"),
    "empty dict": (lambda _: {"path": None, "bytes": None}, None, "an audio dict holds"),
    "url": (lambda _: "https://a.b/c.wav", None, "is a URL: download it"),
    "not audio": (lambda tmp: damaged("noise", tmp), None, "noise.flac cannot be decoded"),
    "cut off": (lambda tmp: damaged("cut", tmp), None, "cut.flac is cut off: 0.00 s of the 1.00 s that it claims"),
    "zero bytes": (lambda tmp: damaged("nothing", tmp), None, "nothing.flac cannot be decoded"),
    "bad bytes": (lambda _: b"RIFF", None, "a file of 4 bytes cannot be decoded"),
}


@pytest.mark.parametrize(("audio", "rate", "message"), BAD_AUDIO.values(), ids=BAD_AUDIO.keys())
def test_bad_audio_is_refused_with_its_place_in_the_batch(extractor, tmp_path, audio, rate, message):
    with pytest.raises(ValueError, match=rf"audio\[1\]: .*{message}"):
        extractor([{"array": A, "sampling_rate": 16000}, audio(tmp_path)], sampling_rate=[None, rate])


def test_other_containers_are_decoded_by_torchcodec_where_it_works(extractor, monkeypatch):
    """With a stand-in for torchcodec, which needs FFmpeg's shared libraries."""

    class AudioDecoder:
        def __init__(self, source):
            if source != b"a container":
                raise RuntimeError("no audio stream")

        def get_all_samples(self):
            return SimpleNamespace(data=torch.full((2, 44100), 0.5), sample_rate=44100)

    monkeypatch.setattr("audio_muscall.is_torchcodec_usable", lambda decode: True)
    monkeypatch.setitem(sys.modules, "torchcodec", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", SimpleNamespace(AudioDecoder=AudioDecoder))
    got = extractor(b"a container")
    assert got["window_weights"].tolist() == [[1.0]] and got["input_values"][0, 0, 8000] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="neither by soundfile nor by torchcodec: no audio stream"):
        extractor(b"noise")
