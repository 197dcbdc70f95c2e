# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Lengths of audio files from their bytes, whatever their headers claim; nothing is decoded here."""

import bisect
import io
import itertools
import re
import struct
from typing import BinaryIO, NamedTuple


Pieces = list[bytes | tuple[int, int]]  # what a file is put together from: bytes, and (start, stop) of another file

CHAIN = 4  # frames of one kind that follow each other; by chance they do not
SEARCHED = 2**24  # bytes, pictures in tags are smaller
TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS")  # how tags behind the audio begin
TAIL = 2**16  # bytes; holds the last frame of a FLAC file, with tags behind it


class SplicedFile(io.RawIOBase):
    """A file for soundfile that is never whole in memory: pieces of `stream` and bytes, one after the other."""

    def __init__(self, stream: BinaryIO, pieces: Pieces):
        self._stream, self._pieces, self._position = stream, pieces, 0
        sizes = [len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces]
        self._ends = list(itertools.accumulate(sizes))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ends[-1]}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:
        buffer = memoryview(buffer).cast("B")
        count = 0
        index = bisect.bisect_right(self._ends, self._position)
        while count < len(buffer) and index < len(self._pieces):
            piece, left = self._pieces[index], self._ends[index] - self._position
            part = buffer[count : count + left]
            if isinstance(piece, bytes):
                part[:] = piece[len(piece) - left :][: len(part)]
            else:
                self._stream.seek(piece[1] - left)
                self._stream.readinto(part)
            self._position += len(part)
            count += len(part)
            index += len(part) == left
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


def byte_size(stream: BinaryIO) -> int:
    """Return the size of a file in bytes."""
    return stream.seek(0, io.SEEK_END)


def read_at(stream: BinaryIO, position: int, size: int) -> bytes:
    """Return up to `size` bytes from `position` on."""
    stream.seek(min(position, 2**62))  # a size in a damaged header may lead beyond what is a position
    return stream.read(size)


def skip_id3(stream: BinaryIO, start: int = 0) -> int:
    """Return where the ID3v2 tags end that begin at `start`."""
    while (head := read_at(stream, start, 10))[:3] == b"ID3" and len(head) == 10:
        start += 10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    return start


# MP3: frames of MPEG audio, layer III. The first may be no music but an information frame: with a header named Xing
# or Info (LAME and others) or VBRI (Fraunhofer), which claims how many frames and bytes there are.


class Kind(NamedTuple):
    """The rate and the channels of MPEG frames, which do not change within a stream."""

    rate: int  # in hertz (Hz)
    channels: int

    @property
    def frame_samples(self) -> int:
        """Return how many samples a frame has in each channel."""
        return 1152 if self.rate >= 32000 else 576

    @property
    def info_offset(self) -> int:
        """Return where the name of an information frame stands: behind the header and the side information."""
        return 4 + (32 if self.channels == 2 else 17) if self.rate >= 32000 else 4 + (17 if self.channels == 2 else 9)


class Run(NamedTuple):
    """Frames of one kind that follow each other from byte `start` to `stop`."""

    start: int
    stop: int
    count: int
    kind: Kind | None


class Info(NamedTuple):
    """The claims of the information frame `frame` of an MP3; `None` where there is none."""

    frame: bytes
    kind: Kind
    frames: int | None  # without this one
    size: int | None  # in bytes, with this one
    rest: int | None  # where the other fields of a Xing header begin, in bytes; None for VBRI, which decoders ignore

    def rewrite(self, frames: int, size: int) -> bytes:
        """Return the frame with other claims; delay and padding of the encoder stay."""
        start = self.kind.info_offset
        flags = int.from_bytes(self.frame[start + 4 : start + 8], "big") | 3
        fields = struct.pack(">III", flags, frames, size)
        return (self.frame[: start + 4] + fields + self.frame[self.rest :])[: len(self.frame)]


def _frame_table() -> dict[int, tuple[int, Kind]]:
    """
    Return the size in bytes and the kind of a frame by bits 31 to 6 of its header, without those for the checksum,
    private use and the way in which two channels are coded (ISO/IEC 11172-3 and 13818-3; MPEG 2.5 has no standard).
    """
    low = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    high = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    table = {}
    for version, shift in ((3, 0), (2, 1), (0, 2)):
        for index, padding, mono in itertools.product(range(14), (0, 1), (False, True)):
            for rate_index, rate in enumerate((44100 >> shift, 48000 >> shift, 32000 >> shift)):
                kilobits, factor = (high[index], 144) if version == 3 else (low[index], 72)
                header = 0xFFE2 << 16 | version << 19 | (index + 1) << 12 | rate_index << 10 | padding << 9
                value = factor * 1000 * kilobits // rate + padding, Kind(rate, 1 if mono else 2)
                table[header | 0xC0 if mono else header] = value
    return table


FRAMES = _frame_table()
SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", re.DOTALL)


def _frame(head: bytes) -> tuple[int, Kind] | None:
    word = int.from_bytes(head, "big") & 0xFFFEFEC0
    return FRAMES.get(word if word & 0xC0 == 0xC0 else word & ~0xC0)


def _walk(stream: BinaryIO, start: int, size: int, limit: int | None = None) -> Run:
    """Follow frames of one kind from `start` on, `limit` of them or all; the last one must be whole."""
    position, count, kind = start, 0, None
    while count != limit:
        stream.seek(position)
        frame = _frame(stream.read(4))
        if frame is None or position + frame[0] > size or frame[1] != (kind or frame[1]):
            break
        position, count, kind = position + frame[0], count + 1, frame[1]
    return Run(start, position, count, kind)


def find_run(stream: BinaryIO, start: int, chain: int = CHAIN) -> Run | None:
    """Return the first run of at least `chain` frames that begins at `start` or behind it."""
    size = byte_size(stream)
    for position in range(start, min(size, start + SEARCHED), TAIL):
        for match in SYNC.finditer(read_at(stream, position, TAIL + 1)):
            found = position + match.start()
            if _walk(stream, found, size, chain).count == chain:
                return _walk(stream, found, size)
    return None


def find_runs(stream: BinaryIO) -> list[Run]:
    """Return the runs of frames of an MP3, without what stands before, between and behind them."""
    start = skip_id3(stream)
    run = find_run(stream, start)
    if start > 0 and (run is None or run.start > start):  # the size of the tag may be wrong
        run = find_run(stream, 0)
    runs = []
    while run is not None:
        runs.append(run)
        run = find_run(stream, run.stop)
    return runs


def read_info(stream: BinaryIO, start: int) -> Info | None:
    """Return what the frame at byte `start` claims; `None` if it is no information frame of an MP3."""
    found = _frame(read_at(stream, start, 4))
    if found is None:
        return None
    size, kind = found
    frame = read_at(stream, start, size)
    if len(frame) < size:
        return None
    if frame[36:40] == b"VBRI":
        claimed_size, frames = struct.unpack(">II", frame[46:54])
        return Info(frame, kind, frames, claimed_size, None)
    offset = kind.info_offset
    if frame[offset : offset + 4] not in (b"Xing", b"Info") or len(frame) < offset + 16:
        return None
    flags, *fields = struct.unpack(">III", frame[offset + 4 : offset + 16])
    frames = fields.pop(0) if flags & 1 else None
    claimed_size = fields.pop(0) if flags & 2 else None
    return Info(frame, kind, frames, claimed_size, offset + 16 - 4 * len(fields))


def write_info(kind: Kind, header: bytes, frames: int) -> bytes:
    """
    Return an information frame for `frames` frames like the one with that `header` of 4 bytes. Without one, the
    decoder takes the bitrate of the first frames for that of all: some tracks lose half.
    """
    # A frame of the same kind at the bitrate of index 8, 112 or 64 kbit/s, without a checksum.
    header = bytes([0xFF, header[1] | 1, 0x80 | header[2] & 0x0C, header[3]])
    frame = header.ljust(kind.info_offset, b"\0") + b"Xing" + struct.pack(">II", 1, frames)
    return frame.ljust(_frame(header)[0], b"\0")


# Ogg: pages. A stream begins with a page that says so; streams one after the other are called links of a chain.

PAGE = re.compile(rb"OggS\0")


def find_links(stream: BinaryIO) -> list[int]:
    """Return where the links of an Ogg file begin, in bytes. A large file is looked at in places if that will do."""
    size = byte_size(stream)
    if size <= 4 * TAIL:
        return _links_from(io.BytesIO(read_at(stream, 0, size)))
    return [0] if _is_one_stream(stream, size) else _links_from(stream)


def _links_from(stream: BinaryIO) -> list[int]:
    links, position, follows, page = [], 0, False, None
    while len(head := read_at(stream, position, 27 + 255)) >= 27:
        if head[:4] != b"OggS":
            if page is not None:  # the page before may be cut off: the next one begins within its size
                position, page = page + 1, None
                continue
            found = head.find(b"OggS", 1)
            position += found if found > 0 else len(head) - 3
            continue
        begins = head[5] & 2 != 0
        if begins and not follows:  # streams that begin together are one link
            links.append(position)
        follows, page = begins, position
        position += 27 + head[26] + sum(head[27 : 27 + head[26]])
    return links


def _is_one_stream(stream: BinaryIO, size: int) -> bool:
    """Tell whether pages all over an Ogg file are those of its first stream, and no other begins near its end."""
    first = read_at(stream, 14, 4)
    last = 0
    for place in range(0, size, size // 16):
        excerpt = read_at(stream, place, 2**14)
        found = excerpt.find(b"OggS\0")
        if found >= 0 and found + 22 <= len(excerpt):
            number = int.from_bytes(excerpt[found + 18 : found + 22], "little")
            if excerpt[found + 14 : found + 18] != first or number < last:
                return False
            last = number
    return not _links_from(io.BytesIO(read_at(stream, size - 2 * TAIL, 2 * TAIL)))


def last_page_samples(stream: BinaryIO, stop: int) -> int:
    """Return how many samples stand in the last page of the Ogg stream that ends at byte `stop`, at most."""
    for size in (2**14, 2 * TAIL):  # most pages have 4 kB, the largest 64
        tail = read_at(stream, max(0, stop - size), min(stop, size))
        starts = [match.start() for match in PAGE.finditer(tail)]
        positions = [int.from_bytes(tail[start + 6 : start + 14], "little") for start in starts]
        ends = [position for position in positions if position < 2**63]  # others are of pages in which no packet ends
        if len(ends) > 1:
            return ends[-1] - ends[-2]
    return 2**18


# FLAC: the header claims how many samples there are, and every frame has its number.


class FlacHeader(NamedTuple):
    """The claims of the header of a FLAC file, and where they stand: `position` in the file, in bytes."""

    position: int
    block_samples: int
    samples: int  # 0 if unknown
    fields: bytes  # of 8 bytes, the last 36 bits of which are `samples`

    def pieces(self, samples: int, size: int) -> Pieces:
        """Return the pieces of the file with another number of samples; `size` is the file's, in bytes."""
        fields = int.from_bytes(self.fields, "big") >> 36 << 36 | samples
        return [(0, self.position), fields.to_bytes(8, "big"), (self.position + 8, size)]


def read_flac_header(stream: BinaryIO) -> FlacHeader | None:
    """Return the header of a FLAC file; `None` if this is none."""
    start = skip_id3(stream)
    head = read_at(stream, start, 26)
    if head[:4] != b"fLaC" or len(head) < 26:
        return None
    samples = int.from_bytes(head[18:26], "big") & (2**36 - 1)
    return FlacHeader(start + 18, int.from_bytes(head[8:10], "big"), samples, head[18:26])


def flac_ends(stream: BinaryIO, header: FlacHeader) -> list[int]:
    """Return at which samples the last frames of a FLAC file end, the last first."""
    size = byte_size(stream)
    for searched in (TAIL, SEARCHED):  # the last frame may be long, or have long tags behind it
        tail = read_at(stream, max(0, size - searched), searched)
        starts = [match.start() for match in re.finditer(rb"\xff[\xf8\xf9]", tail)]
        ends = [_flac_frame_end(tail[start : start + 16], header.block_samples) for start in reversed(starts)]
        if found := [end for end in ends if end is not None]:
            return found
    return []


def _flac_frame_end(head: bytes, block_samples: int) -> int | None:
    """Return at which sample the frame with the header `head` ends (RFC 9639, section 9.1), `None` if it is none."""
    if len(head) < 16:
        return None
    size_code, rate_code = head[2] >> 4, head[2] & 15
    length = max(1, 8 - (head[4] ^ 0xFF).bit_length())  # of the number, which is coded as in UTF-8
    end = 4 + length + {6: 1, 7: 2}.get(size_code, 0)
    check = end + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if size_code == 0 or length > 7 or _crc8(head[:check]) != head[check]:
        return None
    number = head[4] & (0x7F if length == 1 else 0x7F >> length)
    for byte in head[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    if size_code in (6, 7):
        samples = int.from_bytes(head[4 + length : end], "big") + 1
    else:
        samples = 192 if size_code == 1 else 144 << size_code if size_code < 6 else 1 << size_code
    return (number if head[1] & 1 else number * block_samples) + samples


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 ^ (0x107 if crc & 0x80 else 0)
    return crc


# WAV, AIFF, CAF: chunks, each with a name and a size in bytes. A recorder that stops without warning leaves the size
# of the audio at zero or at an earlier one. AU has one size, in its header.

CHUNKS = {  # where the first chunk begins, how sizes are written, and the name of the audio
    b"RIFF": (12, "<I", b"data"),
    b"RIFX": (12, ">I", b"data"),
    b"RF64": (12, "<I", b"data"),
    b"FORM": (12, ">I", b"SSND"),
    b"caff": (8, ">Q", b"data"),
}


def pieces_to_end(stream: BinaryIO) -> Pieces | None:
    """
    Return the pieces of a WAV, AIFF, CAF or AU file with a header that says that the audio goes on to the end; `None`
    if the header may be right: the file ends with its audio, or other chunks or tags follow.
    """
    size, magic = byte_size(stream), read_at(stream, 0, 4)
    if magic == b".snd":
        form, found = ">I", (8, *struct.unpack(">II", read_at(stream, 4, 8).ljust(8, b"\0")))
    elif magic in CHUNKS:
        first, form, name = CHUNKS[magic]
        found = _find_audio_chunk(stream, first, form, name)
    else:
        found = None
    if found is None:
        return None
    offset, start, stated = found
    if magic == b"RF64":  # a size of 64 bits stands in the first chunk
        stated = struct.unpack("<Q", read_at(stream, 28, 8).ljust(8, b"\0"))[0]
    if magic == b"RF64":
        offset, form = 28, "<Q"
    if start + stated > size and form in ("<Q", ">Q"):
        stated = 0  # unknown, which libsndfile understands where sizes have 32 bits
    elif start + stated + 256 > size or _chunks_follow(stream, start + stated, CHUNKS.get(magic, (0, form))[1], size):
        return None
    actual = min(size - start, 256 ** struct.calcsize(form) - 1)
    return [(0, offset), struct.pack(form, actual), (offset + struct.calcsize(form), size)]


def _find_audio_chunk(stream: BinaryIO, first: int, form: str, name: bytes) -> tuple[int, int, int] | None:
    """Return where the size of the audio stands, where the audio begins, and its size."""
    width, position = struct.calcsize(form), first
    while len(head := read_at(stream, position, 4 + width)) == 4 + width and re.match(rb"[ -~]{4}", head):
        start, stated = position + 4 + width, struct.unpack(form, head[4:])[0]
        if head[:4] == name:
            return position + 4, start, stated
        position = start + stated + (stated % 2 if width == 4 else 0)
    return None


def _chunks_follow(stream: BinaryIO, stop: int, form: str, size: int) -> bool:
    """Tell whether tags, or chunks up to the end of the file, stand behind the audio."""
    width = struct.calcsize(form)
    for padding in (0, 1):  # a chunk of odd size should be followed by one byte more
        position = stop + padding
        if read_at(stream, position, 8).startswith(TAGS):
            return True
        while len(head := read_at(stream, position, 4 + width)) == 4 + width and re.match(rb"[ -~]{4}", head):
            stated = struct.unpack(form, head[4:])[0]
            position += 4 + width + stated + (stated % 2 if width == 4 else 0)
        if stop + padding < position >= size:
            return True
    return False
