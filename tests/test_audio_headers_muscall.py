# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""MP3: whatever the headers claim and whatever stands between the frames, the length is that of the frames."""

import struct

import miniaudio
import numpy as np
import pytest
from sounds import mp3_frames, music, write

from audio_muscall import AudioReader


DELAY = 529  # samples by which every decoder of MP3 is late, and which libmpg123 leaves out
SECONDS = 2
generator = np.random.default_rng(0)
JUNK = generator.bytes(70_000)


def frame_samples(rate):
    return 1152 if rate >= 32000 else 576


def length(source):
    return AudioReader(source, 16000)._frames


def id3(size, stated=None):
    stated = size if stated is None else stated
    return b"ID3\4\0\0" + bytes(stated >> shift & 127 for shift in (21, 14, 7, 0)) + JUNK[:size]


def ape(size):
    return b"APETAGEX" + struct.pack("<IIII", 2000, size + 32, 1, 1 << 31) + bytes(8) + JUNK[:size]


def info_offset(rate, channels):
    return 4 + ((32, 17)[channels == 1] if rate >= 32000 else (17, 9)[channels == 1])


@pytest.fixture(scope="module")
def mp3(tmp_path_factory):
    """By rate and channels: an information frame, the other frames, and how many samples these have if decoded."""
    folder, files = tmp_path_factory.mktemp("mp3"), {}
    for rate, channels in ((44100, 2), (48000, 1), (22050, 1), (8000, 2)):
        samples = music(SECONDS, rate, channels)
        samples[: rate // 2] *= 1e-3  # the bitrate of the first frames is not that of all
        path = write(folder / f"{rate}.mp3", samples, rate, bitrate_mode="VARIABLE", compression_level=0.5)
        info, *frames = mp3_frames(path.read_bytes())
        decoded = miniaudio.decode(b"".join(frames), nchannels=channels, sample_rate=rate)
        decoded = len(decoded.samples) // channels
        assert decoded == len(frames) * frame_samples(rate)
        files[rate, channels] = info, frames, decoded
    return files


def mutate(info, frames, rate, channels, random):
    """Return an MP3 with a wrong header, and whether delay and padding of the encoder are still right."""
    start = info_offset(rate, channels)
    claims = [len(frames), sum(map(len, frames)) + len(info)]
    kind = random.integers(8)
    wrong = (0, 1, int(random.integers(len(frames))), int(random.integers(2**32)))[random.integers(4)]
    if kind < 3:  # the number of frames, of bytes, or both
        info = info[: start + 8] + struct.pack(
            ">II", *(wrong if kind in (2, index) else claim for index, claim in enumerate(claims))
        ) + info[start + 16 :]  # fmt: skip
    elif kind == 3:  # a header without fields
        info = info[: start + 4] + bytes(len(info) - start - 4)
    elif kind == 4:  # delay and padding of the encoder
        place = start + 120 + 21
        info = info[:place] + random.bytes(3) + info[place + 3 :]
    elif kind == 5:  # a header of Fraunhofer's encoder
        claims = [wrong, int(random.integers(2**32))]
        vbri = b"VBRI" + struct.pack(">HHHII", 1, 0, 75, claims[1], claims[0])
        info = (info[:4] + bytes(32) + vbri).ljust(max(len(info), 60), b"\0")[: len(info)]
    elif kind == 6:
        info = b""
    before = (b"", id3(300), id3(99) + bytes(random.integers(2000)), b"\xef\xbb\xbf", ape(200), id3(50) + id3(70))
    behind = (b"", b"TAG" + bytes(125), ape(int(random.integers(9000))), bytes(random.integers(5000)))
    data = before[random.integers(6)] + info + b"".join(frames) + behind[random.integers(4)]
    return data, kind not in (3, 4, 5, 6)


def test_the_length_is_that_of_the_frames_whatever_the_header_claims(mp3, tmp_path):
    random = np.random.default_rng(1)
    for index in range(200):
        rate, channels = key = list(mp3)[index % len(mp3)]
        info, frames, decoded = mp3[key]
        data, is_right = mutate(info, frames, rate, channels, random)
        got = length(data)
        # Either the encoder's delay and padding, 12 bits each, are left out, or the decoder's delay alone.
        assert got == SECONDS * rate if is_right else decoded - DELAY - 2 * 4095 <= got <= decoded - DELAY
        if index % 10 == 0:
            path = tmp_path / "a.mp3"
            path.write_bytes(data)
            with AudioReader(path, rate) as reader, AudioReader(data, rate) as of_bytes:
                whole = reader.read()
                assert np.array_equal(of_bytes.read(), whole)
                for start in (0, len(whole) // 2, len(whole) - 500):
                    assert np.abs(reader.read(start, start + 900) - whole[start : start + 900]).max() < 1e-5


BEFORE = {
    "zeros": bytes(500),
    "many zeros": bytes(100_000),
    "junk": JUNK[:3000],
    "byte-order mark": b"\xef\xbb\xbf",
    "tag and zeros": id3(1000) + bytes(500),
    "tag and junk": id3(1000) + JUNK[:700],
    "tag and mark": id3(100) + b"\xef\xbb\xbf",
    "tags": id3(100) + bytes(30) + id3(200),
    "ape": ape(300),
    "footer": b"ID3\4\0\x10\0\0\0\x64" + JUNK[:100] + b"3DI\4\0\x10\0\0\0\x64",
    "tag larger than stated": id3(600, stated=20),
    "tag smaller than stated": id3(100, stated=9000),
    "tag of 256 MB": id3(100, stated=2**28 - 1),
}


@pytest.mark.parametrize("has_info", [True, False], ids=["info", "bare"])
@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE.keys())
def test_bytes_before_the_first_frame_take_nothing_away(mp3, before, has_info):
    for (rate, _), (info, frames, decoded) in mp3.items():
        expected = SECONDS * rate if has_info else decoded - DELAY
        assert length(before + (info if has_info else b"") + b"".join(frames)) == expected


@pytest.mark.parametrize("has_info", [True, False], ids=["info", "bare"])
@pytest.mark.parametrize("junk", [JUNK[:300], JUNK[:5000], bytes(70_000), id3(3000)], ids=len)
def test_junk_in_the_middle_takes_nothing_away(mp3, junk, has_info, capfd):
    for (rate, _), (info, frames, decoded) in mp3.items():
        middle = len(frames) // 2
        data = (info if has_info else b"") + b"".join(frames[:middle]) + junk + b"".join(frames[middle:])
        with AudioReader(data, rate) as reader:
            assert len(reader.read()) == (SECONDS * rate if has_info else decoded - DELAY)
    if len(junk) > 1024:  # less is left to the decoder, which writes a note
        assert "Giving up resync" not in capfd.readouterr().err


def test_joined_files_are_read_from_the_first_to_the_last(mp3, tmp_path):
    info, frames, decoded = mp3[44100, 2]
    data = info + b"".join(frames)
    second = decoded + frame_samples(44100)  # its information frame is silence
    assert length(data + data) == SECONDS * 44100 + second
    assert length(id3(50) + data + b"TAG" + bytes(125) + id3(90) + data) == SECONDS * 44100 + second
    assert length(b"".join(frames) * 3) == 3 * decoded - DELAY
    mono = write(tmp_path / "a.mp3", music(1, 44100), 44100).read_bytes()
    assert length(data + mono) == (SECONDS + 1) * 44100
    with pytest.raises(ValueError, match="joined from parts at 44100 and 48000 Hz, of 2.00 s, 2.00 s"):
        length(data + mp3[48000, 1][0] + b"".join(mp3[48000, 1][1]))


def test_frames_that_are_not_whole_are_left_out(mp3):
    for (rate, _), (_, frames, decoded) in mp3.items():
        lost = frame_samples(rate)
        assert length(frames[0][20:] + b"".join(frames[1:])) == decoded - lost - DELAY
        assert length(b"".join(frames)[:-9]) == decoded - lost - DELAY
        damaged = frames[9][:1] + b"\0\0" + frames[9][3:]
        assert length(b"".join(frames[:9]) + damaged + b"".join(frames[10:])) == decoded - lost - DELAY


def test_a_file_cut_off_says_how_much_is_there(mp3):
    info, frames, _ = mp3[44100, 2]
    with pytest.raises(ValueError, match=r"is cut off: 1.3\d s of the 2.\d\d s that it claims are there"):
        length(info + b"".join(frames[:52]))


def test_an_mp3_in_a_wav_is_read(mp3):
    info, frames, _ = mp3[44100, 2]
    data = info + b"".join(frames)
    header = struct.pack("<HHIIHHH", 0x55, 2, 44100, 16000, 1, 0, 12) + bytes(12)
    chunks = b"WAVEfmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", len(data)) + data
    assert length(b"RIFF" + struct.pack("<I", len(chunks)) + chunks) == SECONDS * 44100


def test_no_warning_of_the_decoder_lacks_the_name_of_the_file(mp3, capfd):
    info, frames, _ = mp3[44100, 2]
    start = info_offset(44100, 2) + 12
    wrong_size = info[:start] + struct.pack(">I", 99) + info[start + 4 :]
    sources = [wrong_size + b"".join(frames), info + b"".join(frames) + ape(9000)]
    for source in sources:
        assert length(source) == SECONDS * 44100
    assert "Xing stream size" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "data", [b"\xff\xfb", JUNK, b"\xff\xf1\x50\x80" * 3000, id3(900), b"\xff\xd8\xff\xe0" + JUNK[:9000]]
)
def test_what_has_no_frames_is_refused(data):
    with pytest.raises(ValueError, match="cannot be decoded"):
        length(data)
