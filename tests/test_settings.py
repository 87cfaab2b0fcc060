import pytest

from course_utils.settings import PRESETS, course_settings


@pytest.fixture(params=["cpu", "cuda", "mps"])
def device(request, monkeypatch):
    monkeypatch.delenv("COURSE_PRESET", raising=False)
    monkeypatch.setattr("course_utils.settings.best_device", lambda: request.param)
    return request.param


def test_environment_chooses_the_preset_on_any_device(monkeypatch, device):
    for preset in PRESETS:
        monkeypatch.setenv("COURSE_PRESET", preset)
        settings = course_settings()
        assert (settings.preset, settings.device) == (preset, device)
        assert settings.train_images == PRESETS[preset]["train_images"]


def test_default_is_laptop_on_any_device(monkeypatch, device):
    assert course_settings().preset == "laptop"
    monkeypatch.setenv("COURSE_PRESET", "")
    assert course_settings().preset == "laptop"


def test_an_argument_wins_over_the_environment(monkeypatch, device):
    monkeypatch.setenv("COURSE_PRESET", "huge")
    assert course_settings("smoke").preset == "smoke"


@pytest.mark.parametrize("preset", ["huge", "Full", " laptop", "x" * 5000, "two\nlines"])
def test_an_unknown_preset_is_one_sentence_that_says_where_it_comes_from(monkeypatch, device, preset):
    monkeypatch.setenv("COURSE_PRESET", preset)
    with pytest.raises(ValueError, match="'smoke', 'laptop', 'full'") as from_environment:
        course_settings()
    with pytest.raises(ValueError, match="'smoke', 'laptop', 'full'") as from_argument:
        course_settings(preset)
    assert "COURSE_PRESET" in str(from_environment.value) and "COURSE_PRESET" not in str(from_argument.value)
    assert "\n" not in str(from_argument.value) and len(str(from_environment.value)) < 200


@pytest.mark.parametrize("preset", [7, ["smoke"], {"laptop"}, object()])
def test_a_preset_that_is_no_text_is_one_sentence(device, preset):
    with pytest.raises(ValueError, match="expected one of"):
        course_settings(preset)


def test_full_is_more_than_laptop_and_smoke_is_least():
    for name in ("train_images", "eval_images", "images_per_class", "ddpm_steps"):
        assert PRESETS["smoke"][name] < PRESETS["laptop"][name] <= PRESETS["full"][name]
