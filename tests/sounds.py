# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""Music of tones and noise, and files of it in every format that soundfile writes."""

import numpy as np
import soundfile


FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def music(seconds, rate, channels=1, seed=0):
    """Tones and bursts of noise, `(frames, channels)`, within [-0.8, 0.8]."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    tones = sum(0.1 * np.sin(2 * np.pi * hertz * time) for hertz in (110, 440, 1234))
    noise = 0.1 * generator.uniform(-1, 1, len(time)) * (np.sin(5 * time) > 0.5)
    return np.stack([np.roll(tones + noise, 37 * channel) for channel in range(channels)], axis=1)


def write(path, samples, rate, **options):
    """Writes block by block: libsndfile's Vorbis encoder overflows the stack on long writes."""
    form, subtype = FORMATS[path.suffix[1:]]
    options = {"format": form, "subtype": subtype, **options}
    with soundfile.SoundFile(path, "w", rate, samples.shape[1], **options) as file:
        for start in range(0, len(samples), 8192):
            file.write(samples[start : start + 8192])
    return path


def mp3_frames(data):
    """Split an MP3 that is nothing but frames."""
    low = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    high = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    frames = []
    while data:
        version, code = data[1] >> 3 & 3, data[2]
        kilobits, factor = (high, 144) if version == 3 else (low, 72)
        rate = (44100, 48000, 32000)[code >> 2 & 3] // {3: 1, 2: 2, 0: 4}[version]
        size = factor * 1000 * kilobits[(code >> 4) - 1] // rate + (code >> 1 & 1)
        frames.append(data[:size])
        data = data[size:]
    return frames
