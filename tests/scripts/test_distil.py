# Copyright 2026 The MusCALL repository authors. Licensed under the Apache License, Version 2.0.
"""The fast model's training: how sounds are drawn and changed, what the losses are, and a run of some steps."""

import numpy as np
import pytest
import soundfile
import torch
from small_models import MOBILENET, build_musicnn_model, build_processor
from sounds import music
from transformers import AutoModel

from configuration_muscall import MusCALLMobileNetConfig
from modeling_muscall import MusCALLModel
from muscall.training.audioset import AudioSetTeacher
from scripts.distil.lessons import WEIGHTS, Lesson, Student, Teachers, measure_losses
from scripts.distil.sounds import RATE, Pool, augment, equalise, mix, power, read_tracks
from scripts.distil.train import Sounds, distil, learning_rate_factor, load_sounds, save, update_average


SECONDS = 4  # of a window: patches of 3 s must fit
WINDOW = SECONDS * RATE


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sounds as scripts/distil/music.py writes them."""
    folder = tmp_path_factory.mktemp("sounds")
    for number, name in enumerate(("recorded", "rendered", "validation")):
        (folder / name).mkdir()
        for track in range(2):
            samples = music(6, RATE, seed=10 * number + track)
            soundfile.write(folder / name / f"{track}.flac", samples, RATE)
    return folder


@pytest.fixture(scope="module")
def model() -> MusCALLModel:
    return build_musicnn_model().eval()


@pytest.fixture(scope="module")
def teachers(model) -> Teachers:
    torch.manual_seed(0)
    return Teachers(model, AudioSetTeacher(), SECONDS)


def make_student(teachers: Teachers) -> Student:
    torch.manual_seed(0)
    return Student(MusCALLMobileNetConfig(**(MOBILENET | {"window_seconds": SECONDS, "hidden_size": 14})), teachers)


def ramp(length: int, first: int = 0) -> np.ndarray:
    return np.arange(first, first + length, dtype=np.int16)


def test_windows_come_from_one_track_each():
    pool = Pool([ramp(1000), ramp(1000, 20000)], window=100, device="cpu")
    windows = pool.draw(200, faster=0) * 2**15
    assert torch.equal(windows - windows[:, :1], torch.arange(100.0).expand(200, -1))
    starts = windows[:, 0]
    assert ((starts < 900) | ((starts >= 20000) & (starts < 20900))).all()
    assert 60 < (starts < 900).sum() < 140


def test_a_window_may_be_read_faster_or_slower():
    steps = (Pool([ramp(1000)], window=100, device="cpu").draw(200, faster=1) * 2**15).diff()
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps), atol=1e-3, rtol=0)
    assert 0.9 <= steps.min() < 0.95 and 1.07 < steps.max() <= 1.1201


def test_windows_for_validation_follow_each_other():
    windows = Pool([ramp(250), ramp(100, 5000)], window=100, device="cpu").cut() * 2**15
    assert windows[:, 0].tolist() == [0, 100, 5000]


def test_tracks_of_another_rate_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.zeros(100), 16000)
    with pytest.raises(ValueError, match="expected mono of 24000 Hz"):
        read_tracks(tmp_path, 10)


def test_what_is_mixed_in_has_its_level_and_silence_adds_nothing():
    torch.manual_seed(0)
    waves, others = torch.randn(2, 24000), 5 * torch.randn(2, 24000)
    added = mix(waves, others, 1.0, (-6, -6)) - waves
    torch.testing.assert_close(10 * (power(added) / power(waves)).log10(), torch.full((2, 1), -6.0))
    assert torch.equal(mix(waves, torch.zeros_like(waves), 1.0, (0, 0)), waves)


def test_equalising_changes_some_waveforms_and_no_phase():
    torch.manual_seed(0)
    waves = torch.randn(64, 4800)
    ratio = torch.fft.rfft(equalise(waves)) / torch.fft.rfft(waves)
    changed = (ratio.real - 1).abs().amax(1) > 1e-2
    assert 20 < changed.sum() < 50
    assert ratio.imag[:, 1:-1].abs().quantile(0.99) < 1e-3


def test_augmented_waves_are_finite_and_within_full_scale():
    torch.manual_seed(0)
    speech = Pool([np.random.default_rng(0).integers(-9000, 9000, 3 * RATE).astype(np.int16)], RATE, "cpu")
    waves = augment(torch.cat([torch.randn(31, RATE), torch.zeros(1, RATE)]), speech)
    peaks = waves.abs().amax(1)
    assert waves.isfinite().all()
    assert peaks.max() <= 10 ** (-1 / 20) + 1e-4 and peaks[:31].min() >= 10 ** (-22 / 20) - 1e-4


def test_losses_are_zero_for_what_the_teachers_give(teachers):
    lesson = teachers(torch.randn(2, WINDOW) / 10)
    assert lesson.patches.shape == (2, 2, 14) and lesson.logits.shape == (2, 527)

    def perfect(waves):
        pooled = (lesson.pooled - teachers.pooled_mean) / teachers.pooled_spread
        return lesson.patches, pooled, (lesson.hidden - teachers.hidden_mean) / teachers.hidden_spread

    for name, values in measure_losses(perfect, teachers, lesson).items():
        torch.testing.assert_close(values, torch.zeros(2), atol=1e-4, rtol=0, msg=name)


def test_losses_are_as_by_hand(teachers):
    torch.manual_seed(0)
    lesson = Lesson(None, torch.randn(1, 2, 14), torch.zeros(1, 384), torch.zeros(1, 512), torch.zeros(1, 527))
    patches, pooled, hidden = lesson.patches + teachers.spread, torch.full((1, 384), 2.0), torch.full((1, 512), 3.0)
    losses = measure_losses(lambda waves: (patches, pooled, hidden), teachers, lesson)
    assert losses["musicnn"].item() == pytest.approx(1, rel=1e-4)
    assert losses["pooled"].item() == pytest.approx(4, rel=1e-4)
    assert losses["hidden"].item() == pytest.approx(9, rel=1e-4)
    probabilities = teachers.audioset.classifier[-1](hidden).sigmoid()
    by_hand = -0.5 * (4 * probabilities * (1 - probabilities)).log()  # of a half from what the student says
    assert losses["classes"].item() == pytest.approx(by_hand.sum().item(), rel=1e-3)


def test_the_schedule_warms_up_and_falls_to_almost_nothing():
    factors = [learning_rate_factor(step, 2600) for step in range(2600)]
    assert factors[0] == pytest.approx(1 / 300, rel=0.2)
    assert max(factors) == pytest.approx(0.97, abs=0.01) and factors.index(max(factors)) == 299
    assert factors[-1] < 1e-3


def test_the_average_forgets_its_first_steps():
    averaged = [torch.zeros(1)]
    for count in range(1, 200):
        update_average(averaged, [torch.ones(1)], torch.tensor(count))
    assert averaged[0].item() > 0.999


def test_a_batch_has_a_fifth_of_rendered_music_and_a_small_one_none(folder):
    sounds = load_sounds(folder, "cpu", SECONDS)
    assert [share for _, share in sounds.music] == [0.8, 0.2]
    assert sounds.draw(2).shape == (2, WINDOW)


def test_missing_music_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"recorded holds no track of more than 10 s"):
        load_sounds(tmp_path, "cpu")


@pytest.mark.slow
def test_a_run_lowers_the_loss_and_its_checkpoint_loads(folder, model, teachers, tmp_path):
    sounds = load_sounds(folder, "cpu", SECONDS)
    assert isinstance(sounds, Sounds) and sounds.draw(10).shape == (10, WINDOW)
    rows = []
    student = distil(make_student(teachers), teachers, sounds, steps=12, batch_size=4, every=6, report=rows.append)
    assert [row["step"] for row in rows] == [6, 12]
    assert set(rows[0]) > {f"validation_{name}" for name in WEIGHTS}
    assert rows[1]["loss"] < rows[0]["loss"]
    save(model, build_processor(), student.tower, tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path, trust_remote_code=True).eval()
    waves = torch.randn(1, loaded.config.audio_config.window_samples)
    assert loaded.config.audio_config.model_type == "muscall_mobilenet_model"
    loaded.get_audio_features(waves)


def test_the_table_names_free_packages_that_are_not_held_out():
    pytest.importorskip("mutagen", reason='the open mix needs: pip install -e ".[dev]"')
    from scripts.distil.music import TABLE
    from scripts.files import read_csv
    from scripts.open_mix.build import read_table

    rows = read_csv(TABLE)
    assert {row["kind"] for row in rows} == {"music", "speech"} and all(row["licence"] for row in rows)
    assert not {row["package"] for row in rows} & {row["package"] for row in read_table()}


def test_music_is_the_middle_of_a_track(tmp_path, monkeypatch):
    pytest.importorskip("mutagen", reason='the open mix needs: pip install -e ".[dev]"')
    from scripts.distil import music as collecting

    monkeypatch.setattr(collecting, "SECONDS", {"recorded": 2})
    samples = np.concatenate([np.zeros(3 * 8000), music(2, 8000)[:, 0], np.zeros(3 * 8000)])
    soundfile.write(tmp_path / "a.flac", samples, 8000)
    target = tmp_path / "recorded" / "a.opus"
    assert collecting.write_middle(tmp_path, "a.flac", target, shortest=5)
    (track,) = read_tracks(target.parent, 0)
    assert len(track) == 2 * RATE and 0.6 < np.abs(track).max() / 2**15 <= 1
    assert not collecting.write_middle(tmp_path, "a.flac", tmp_path / "recorded" / "b.opus", shortest=9)


def test_prompts_are_joined(tmp_path, monkeypatch):
    pytest.importorskip("mutagen", reason='the open mix needs: pip install -e ".[dev]"')
    from scripts.distil import music as collecting

    monkeypatch.setattr(collecting, "SPEECH_SECONDS", 60)
    monkeypatch.setattr(collecting, "SPEECH_MINUTES", {"talk": 2})
    for number in range(5):
        soundfile.write(tmp_path / f"{number}.wav", music(30, 8000, seed=number), 8000)
    collecting.write_speech(sorted(tmp_path.glob("*.wav")), tmp_path / "speech", "talk-en")
    assert [len(track) for track in read_tracks(tmp_path / "speech", 0)] == [60 * RATE, 60 * RATE]
