# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Files whose headers are wrong about the length, or that hold more than audio, are read to their end or refused."""

import struct

import numpy as np
import pytest
import soundfile
from sounds import music, write

from audio_muscall import AudioReader


RATE = 8000


def read(source):
    """Read a file as it is, at its own rate, and check that parts read by seeking are those of the whole."""
    with AudioReader(source, RATE) as reader:
        whole = reader.read()
        for start in (len(whole) // 3, len(whole) // 2 - 50, len(whole) - 700, 1):
            assert np.abs(reader.read(start, start + 1500) - whole[start : start + 1500]).max() < 1e-5
    return whole


def both(path, data):
    """Read a path and the same bytes, which give the same samples."""
    path.write_bytes(data)
    whole = read(path)
    assert np.array_equal(read(data), whole)
    return whole


def put(data, position, value):
    return data[:position] + value + data[position + len(value) :]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Three seconds as PCM of 16 bits, `(frames,)`."""
    path = write(tmp_path_factory.mktemp("pcm") / "a.wav", music(3, RATE), RATE)
    return soundfile.read(path, dtype="float32")[0]


def recorded(tmp_path, original, form):
    path = tmp_path / f"a.{form}"
    soundfile.write(path, original, RATE, format=form.upper(), subtype="PCM_16")
    return path, path.read_bytes()


SIZES = [0, 4000, 2**31 - 1, 2**32 - 1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("riff", [True, False])
def test_wav_of_a_recorder_that_died_is_read_to_its_end(tmp_path, original, size, riff):
    path, data = recorded(tmp_path, original, "wav")
    data = put(data, data.find(b"data") + 4, struct.pack("<I", size))
    data = put(data, 4, struct.pack("<I", size)) if riff else data
    assert np.array_equal(both(path, data), original)


@pytest.mark.parametrize("behind", [b"LIST\x04\0\0\0INFO", b"ID3\4\0\0\0\0\2\0" + bytes(256), b"TAG" + bytes(125)])
def test_chunks_and_tags_behind_the_audio_are_not_audio(tmp_path, original, behind):
    path, data = recorded(tmp_path, original, "wav")
    assert np.array_equal(both(path, data + behind), original)


@pytest.mark.parametrize(
    ("form", "name", "offset", "width", "sizes"),
    [
        ("aiff", b"SSND", 4, ">I", SIZES),
        ("caf", b"data", 4, ">Q", [0, 4004, 2**64 - 1]),
        ("rf64", b"ds64", 16, "<Q", [0, 4000, 2**64 - 1]),
        ("w64", b"data", 16, "<Q", [0, 4024, 2**64 - 1]),
        ("au", b".snd", 8, ">I", [0, 4000, 2**32 - 1]),
    ],
)
def test_other_formats_with_wrong_sizes_are_read_to_their_end(tmp_path, original, form, name, offset, width, sizes):
    path, data = recorded(tmp_path, original, form)
    for size in sizes:
        changed = put(data, data.find(name) + offset, struct.pack(width, size))
        assert np.array_equal(both(path, changed), original)


def flac(tmp_path, original, samples):
    """A FLAC file that claims a number of samples."""
    path, data = recorded(tmp_path, original, "flac")
    fields = int.from_bytes(data[18:26], "big") >> 36 << 36
    return path, put(data, 18, (fields | samples).to_bytes(8, "big"))


@pytest.mark.parametrize("samples", [0, 1, 10_000, 23_999, 24_001, 48_000, 2**36 - 1])
@pytest.mark.parametrize("behind", [b"", b"TAG" + bytes(125)], ids=["", "id3v1"])
def test_flac_with_a_wrong_length_is_read_to_its_end(tmp_path, original, samples, behind):
    path, data = flac(tmp_path, original, samples)
    assert np.array_equal(both(path, data + behind), original)


def test_flac_cut_off_says_how_much_is_there(tmp_path, original):
    path, data = flac(tmp_path, original, len(original))
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ValueError, match=r"a.flac is cut off: 1\.\d\d s of the 3.00 s"):
        read(path)
    path, data = flac(tmp_path, original, 0)  # the length was never known, so nothing is known to be missing
    assert 12_000 < len(both(path, data[: len(data) * 2 // 3])) < 20_000


@pytest.fixture(scope="module", params=["ogg", "opus"])
def links(request, tmp_path_factory):
    """Streams of 3, 2 and 2 s as bytes, the last of one channel, and each decoded."""
    folder, links = tmp_path_factory.mktemp(request.param), []
    for index, (seconds, channels) in enumerate(((3, 2), (2, 2), (2, 1))):
        path = write(folder / f"{index}.{request.param}", music(seconds, RATE, channels, index), RATE)
        decoded = soundfile.read(path, dtype="float32", always_2d=True)[0].T
        links.append((path.read_bytes(), sum(decoded) / channels))
    return links


@pytest.mark.parametrize("order", [[0, 1], [1, 0], [0, 0], [0, 2, 1], [2] * 5])
@pytest.mark.parametrize("between", [b"", bytes(700)], ids=["", "junk"])
def test_a_chain_of_streams_is_read_from_the_first_to_the_last(tmp_path, links, order, between):
    whole = both(tmp_path / "a.ogg", between.join(links[index][0] for index in order))
    assert np.abs(whole - np.concatenate([links[index][1] for index in order])).max() < 1e-6


def test_a_long_chain_is_noticed_by_its_last_pages(tmp_path):
    path = write(tmp_path / "a.ogg", music(60, 44100, 2), 44100)
    data = path.read_bytes()
    assert len(data) > 2**18
    for chain in (data + data, data + write(tmp_path / "b.ogg", music(61, 44100, 2), 44100).read_bytes()):
        assert AudioReader(chain, 44100).num_samples >= 120 * 44100
    assert AudioReader(data, 44100).num_samples == 60 * 44100


@pytest.mark.parametrize("form", ["ogg", "opus"])
def test_a_stream_cut_off_in_a_chain_takes_nothing_from_the_next(tmp_path, form):
    """As where a download or a recording stopped in the middle of a page, and began again."""
    data = write(tmp_path / f"a.{form}", music(16, 48000, 2), 48000).read_bytes()
    assert len(data) > 2**17
    for share in (0.3, 0.5, 0.9):
        cut = data[: int(share * len(data))]
        expected = AudioReader(cut, 48000).num_samples + AudioReader(data, 48000).num_samples
        assert AudioReader(cut + data, 48000).num_samples == expected > 17 * 48000


def test_samples_without_a_header_are_refused_in_words(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(9000))
    with pytest.raises(ValueError, match="a.raw cannot be decoded"):
        AudioReader(tmp_path / "a.raw", RATE)


def test_a_chain_of_two_rates_or_with_a_broken_stream_is_refused(tmp_path, links):
    other = write(tmp_path / "b.ogg", music(1, 16000), 16000).read_bytes()
    first = write(tmp_path / "a.ogg", music(3, RATE), RATE).read_bytes()
    with pytest.raises(ValueError, match="joined from parts at 8000 and 16000 Hz, of 3.00 s, 1.00 s"):
        read(first + other)
    with pytest.raises(ValueError, match="1 of the 2 parts .* cannot be decoded, the others have 3.00 s"):
        read(first + other[:200] + bytes(500))


@pytest.mark.parametrize(("rate", "seconds"), [(44100, 12), (8000, 20)])
def test_vorbis_is_read_exactly_after_every_seek(tmp_path, rate, seconds):
    """Near the end and a little ahead of where it is, libsndfile is off by up to a block."""
    path = write(tmp_path / "a.ogg", music(seconds, rate, 2), rate)
    whole = sum(soundfile.read(path, dtype="float32")[0].T) / 2
    generator = np.random.default_rng(0)
    with AudioReader(path, rate) as reader:
        position = 0
        for index in range(60):
            ahead, from_end = position + generator.integers(3 * rate), len(whole) - generator.integers(1, 9000)
            start = int((generator.integers(len(whole)), ahead, from_end)[index % 3] % len(whole))
            position = min(start + 3000, len(whole))
            assert np.abs(reader.read(start, position) - whole[start:position]).max() < 1e-5
