import pytest

from course_utils.settings import PRESETS, course_settings


def test_environment_chooses_the_preset(monkeypatch):
    for preset in PRESETS:
        monkeypatch.setenv("COURSE_PRESET", preset)
        assert course_settings().preset == preset


def test_default_is_laptop_without_a_gpu_and_full_with_one(monkeypatch):
    monkeypatch.delenv("COURSE_PRESET", raising=False)
    for device, preset in {"cpu": "laptop", "cuda": "full", "mps": "full"}.items():
        monkeypatch.setattr("course_utils.settings.best_device", lambda device=device: device)
        assert course_settings().preset == preset


def test_unknown_preset(monkeypatch):
    monkeypatch.setenv("COURSE_PRESET", "huge")
    with pytest.raises(ValueError, match="'smoke', 'laptop', 'full'"):
        course_settings()
