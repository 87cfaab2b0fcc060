import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from course_utils import sampling
from course_utils.sampling import SCHEDULERS, denoise, guidance_scales, make_scheduler, predict, sample
from tiny import make_tiny_model


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_pictures_are_finite_in_range_and_repeatable(tiny_model, name, prediction_type):
    scheduler = make_scheduler(name, prediction_type)
    first = sample(tiny_model, scheduler, [3, 7], 4, guidance_scale=2.0, generator=seeded())
    again = sample(tiny_model, scheduler, [3, 7], 4, guidance_scale=2.0, generator=seeded())
    assert first.shape == (2, 1, 28, 28) and first.dtype == torch.float32
    assert first.isfinite().all() and first.abs().max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, sample(tiny_model, scheduler, [3, 7], 4, guidance_scale=2.0, generator=seeded(1)))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_with_a_generator_each_a_picture_does_not_depend_on_its_batch_nor_on_its_place(tiny_model, name):
    scheduler = make_scheduler(name)
    together = sample(tiny_model, scheduler, [1, 2, 3], 3, generator=[seeded(1), seeded(2), seeded(3)])
    others = sample(tiny_model, scheduler, [3, 9, 1], 3, generator=(seeded(3), seeded(4), seeded(1)))
    for label in (1, 2, 3):
        alone = sample(tiny_model, scheduler, [label], 3, generator=[seeded(label)])
        single = sample(tiny_model, scheduler, [label], 3, generator=seeded(label))
        assert torch.equal(alone, single)
        torch.testing.assert_close(together[label - 1 : label], alone, atol=1e-4, rtol=0)
    torch.testing.assert_close(others[[2, 0]], together[[0, 2]], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("many", [False, True])
def test_pictures_do_not_depend_on_how_many_the_network_sees_at_a_time(tiny_model, name, many):
    def draw(batch_size):
        generator = [seeded(i) for i in range(5)] if many else seeded()
        return sample(tiny_model, make_scheduler(name), [1, 2, 3, 4, 5], 3, 2.0, generator, batch_size)

    whole = draw(None)
    for batch_size in (1, 2, 3):
        torch.testing.assert_close(draw(batch_size), whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_another_number_of_generators_than_of_pictures(tiny_model, count):
    with pytest.raises(ValueError, match=f"there are {count} generators for 3 pictures, expected one for each"):
        sample(tiny_model, make_scheduler(), [1, 2, 3], 1, generator=[seeded()] * count)


def by_diffusers(model, scheduler, labels, steps, seed):
    """Pictures by diffusers' own loop: noise, set_timesteps, and a step for each timestep."""
    generator, x = seeded(seed), torch.randn(len(labels), 1, 28, 28, generator=seeded(seed))
    generator.set_state(advanced(seed, len(labels)))
    scheduler.set_timesteps(steps)
    options = dict(generator=generator) if isinstance(scheduler, DDPMScheduler) else {}
    if isinstance(scheduler, DDIMScheduler):
        options = dict(use_clipped_model_output=True)
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(model(x, t, torch.tensor(labels)), t, x, **options).prev_sample
    return x.clamp(-1, 1)


def advanced(seed, count):
    """The state of a generator that has drawn the noise of so many pictures."""
    generator = seeded(seed)
    torch.randn(count, 1, 28, 28, generator=generator)
    return generator.get_state()


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps, seed", [(1, 0), (2, 1), (4, 2), (10, 3), (20, 4)])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_loop_is_diffusers_own(tiny_model, name, steps, seed, prediction_type):
    drawn = sample(tiny_model, make_scheduler(name, prediction_type), [3, 7], steps, generator=seeded(seed))
    expected = by_diffusers(tiny_model, make_scheduler(name, prediction_type), [3, 7], steps, seed)
    torch.testing.assert_close(drawn, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("steps", [3, 6, 7, 40, 60, 61])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_ddim_steps_to_the_next_timestep_of_its_list(tiny_model, steps, prediction_type):
    """Equation 12 of arXiv:2010.02502 without noise, from a picture that is clipped."""
    scheduler = make_scheduler("ddim", prediction_type)
    timesteps = [round(1000 - i * 1000 / steps) - 1 for i in range(steps)]
    x, tiny_model = torch.randn(1, 1, 28, 28, generator=seeded()), tiny_model.eval()
    for t, following in zip(timesteps, [*timesteps[1:], None]):
        kept, added = scheduler.alphas_cumprod[t].sqrt(), (1 - scheduler.alphas_cumprod[t]).sqrt()
        with torch.no_grad():
            said = tiny_model(x, t, torch.tensor([3]))
        picture = (x - added * said) / kept if prediction_type == "epsilon" else kept * x - added * said
        picture = picture.clamp(-1, 1)
        noise = (x - kept * picture) / added
        alpha = torch.tensor(1.0) if following is None else scheduler.alphas_cumprod[following]
        x = alpha.sqrt() * picture + (1 - alpha).sqrt() * noise
    drawn = sample(tiny_model, scheduler, [3], steps, generator=seeded())
    torch.testing.assert_close(drawn, x, atol=2e-4, rtol=0)


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_prediction_that_is_no_number_is_an_error_and_not_a_picture(tiny_model, monkeypatch, name, number):
    calls = []

    def predict_once_wrongly(model, x, t, labels, scale):
        calls.append(t)
        prediction = torch.zeros_like(x)
        prediction[-1, 0, 3, 4] = number if len(calls) == 2 else 0.0
        return prediction

    monkeypatch.setattr(sampling, "predict", predict_once_wrongly)
    with pytest.raises(FloatingPointError, match="no longer finite"):
        sample(tiny_model, make_scheduler(name), [3, 7], 4, generator=seeded())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_network_in_another_dtype_draws_the_same_from_the_same_noise(tiny_model, name, dtype):
    scheduler = make_scheduler(name, "v_prediction")
    expected = sample(tiny_model, scheduler, [3, 7], 4, 2.0, seeded())
    drawn = sample(tiny_model.to(dtype), scheduler, [3, 7], 4, 2.0, seeded())
    assert drawn.dtype == torch.float32 and drawn.device.type == "cpu"
    assert (drawn - expected).abs().mean() < {torch.float64: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}[dtype]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_loop_runs_on_the_networks_device(tiny_model, name):
    steps = list(denoise(tiny_model.to("meta"), make_scheduler(name), torch.tensor([3, 7]), [1.0, 2.0, 2.0], seeded()))
    assert [step.device.type for step in steps] == ["meta"] * 3


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_default_dtype_and_device_play_no_part(tiny_model, name):
    expected = sample(tiny_model, make_scheduler(name), [3, 7], 3, 2.0, seeded())
    try:
        torch.set_default_device("meta")
        if name != "unipc":  # diffusers' own arithmetic mixes dtypes there
            torch.set_default_dtype(torch.float64)
        drawn = sample(tiny_model, make_scheduler(name), [3, 7], 3, 2.0, seeded())
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    torch.testing.assert_close(drawn, expected, atol=1e-5, rtol=0)


def test_guidance_starts_after_its_share_of_the_steps_and_no_step_later():
    for steps in (1, 2, 3, 7, 10, 50, 100, 999, 1000):
        for percent in range(101):
            unguided = guidance_scales(steps, 5.0, percent / 100).count(1.0)
            assert unguided == -(-percent * steps // 100), (steps, percent)


def test_no_guidance_at_all_ignores_the_label_and_a_little_follows_it_a_little(tiny_model):
    def draw(label, scale):
        return sample(tiny_model, make_scheduler("ddim", "v_prediction"), [label], 1, scale, seeded())

    assert torch.equal(draw(3, 0), draw(7, 0)) and torch.equal(draw(3, 0.0), draw(3, 0))
    assert 0 < (draw(3, 0.5) - draw(3, 0)).abs().max() < (draw(3, 1) - draw(3, 0)).abs().max()


def test_numbers_may_be_numpys(tiny_model):
    scheduler = make_scheduler("ddim")
    expected = sample(tiny_model, scheduler, [3], 3, 2.0, seeded(), 1, guidance_start=0.5)
    for steps in (np.int64(3), np.uint8(3), np.array(3), torch.tensor(3)):
        for scale, start in ((np.float32(2), np.float16(0.5)), (np.int32(2), np.float64(0.5)), (np.array(2.0), 0.5)):
            drawn = sample(tiny_model, scheduler, [3], steps, scale, seeded(), np.int16(1), guidance_start=start)
            assert torch.equal(drawn, expected)


def test_few_steps_start_at_the_noisiest_timestep():
    for name in ("ddim", "dpmsolver++", "unipc"):
        scheduler = make_scheduler(name)
        scheduler.set_timesteps(10)
        assert scheduler.timesteps[0] == 999


def test_scheduler_and_mode_are_left_as_they_were(tiny_model):
    scheduler = make_scheduler("ddim")
    before = scheduler.timesteps.clone()
    tiny_model.train()
    sample(tiny_model, scheduler, [0], 2)
    assert torch.equal(scheduler.timesteps, before) and tiny_model.training


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_that_was_in_use_draws_the_same(tiny_model, name):
    fresh, used = make_scheduler(name, "v_prediction"), make_scheduler(name, "v_prediction")
    used.set_timesteps(7)
    for t in used.timesteps[:3]:
        used.step(torch.ones(1, 1, 28, 28), t, torch.ones(1, 1, 28, 28))
    pictures = [sample(tiny_model, of, [3, 8], 4, generator=seeded()) for of in (fresh, used)]
    assert torch.equal(*pictures)
    assert len(used.timesteps) == 7


def test_guidance_goes_through_both_answers(tiny_model):
    x, t, labels = torch.randn(2, 1, 28, 28), torch.tensor(500), torch.tensor([3, 7])
    with torch.no_grad():
        cond = tiny_model(x, t, labels)
        uncond = tiny_model(x, t, torch.full((2,), tiny_model.null_label))
        torch.testing.assert_close(predict(tiny_model, x, t, labels, 1), cond)
        torch.testing.assert_close(
            predict(tiny_model, x, t, labels, 3.0), uncond + 3 * (cond - uncond), atol=1e-5, rtol=1e-4
        )


def test_the_label_decides(tiny_model):
    scheduler = make_scheduler("ddim")
    three, seven = (sample(tiny_model, scheduler, [label], 4, generator=seeded()) for label in (3, 7))
    assert not torch.equal(three, seven)


def test_callback_sees_every_step(tiny_model):
    seen = []
    sample(
        tiny_model,
        make_scheduler("ddim"),
        [1, 2, 3],
        4,
        batch_size=2,
        callback=lambda step, x: seen.append((step, len(x))),
    )
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    "steps", [0, -1, 5000, 2.5, "ten", None, True, np.True_, np.float64(2), np.str_("2"), torch.tensor(True)]
)
def test_bad_steps(tiny_model, steps):
    with pytest.raises(ValueError, match="whole number from 1 to 1000"):
        sample(tiny_model, make_scheduler(), [3], steps)


@pytest.mark.parametrize("scale", [-1, 1000, "much", float("nan"), np.float32("nan"), np.True_, 1j, None])
def test_bad_guidance(tiny_model, scale):
    with pytest.raises(ValueError, match="guidance_scale"):
        sample(tiny_model, make_scheduler(), [3], 2, guidance_scale=scale)


@pytest.mark.parametrize("start", [-0.1, 1.5, "late", float("nan"), True])
def test_bad_guidance_start(tiny_model, start):
    with pytest.raises(ValueError, match="guidance_start"):
        sample(tiny_model, make_scheduler(), [3], 2, guidance_scale=2.0, guidance_start=start)


def test_guidance_sets_in_after_its_share_of_the_steps(tiny_model):
    def steps_of(**guidance):
        seen = []
        scheduler = make_scheduler("ddim", "v_prediction")
        sample(tiny_model, scheduler, [3], 4, generator=seeded(), callback=lambda i, x: seen.append(x), **guidance)
        return seen

    unguided, late = steps_of(), steps_of(guidance_scale=5.0, guidance_start=0.5)
    assert torch.equal(torch.stack(late[:2]), torch.stack(unguided[:2]))
    assert not torch.equal(late[2], unguided[2])
    assert torch.equal(steps_of(guidance_scale=5.0, guidance_start=1.0)[-1], unguided[-1])


def test_guidance_needs_a_network_that_knows_no_class():
    with pytest.raises(ValueError, match="unconditional=True"):
        sample(make_tiny_model(unconditional=False), make_scheduler(), [3], 2, guidance_scale=2)


def test_unknown_scheduler_and_prediction_type():
    with pytest.raises(ValueError, match="'ddim'"):
        make_scheduler("euler")
    with pytest.raises(ValueError, match="v_prediction"):
        make_scheduler("ddim", "sample")


def test_noise_that_ddim_keeps_fits_the_clipped_picture(tiny_model, monkeypatch):
    """Where the network wants more than white, each step goes on with white and the same noise as before."""
    scheduler, seen = make_scheduler("ddim", "v_prediction"), []
    kept, added = scheduler.alphas_cumprod.sqrt(), (1 - scheduler.alphas_cumprod).sqrt()
    monkeypatch.setattr(sampling, "predict", lambda model, x, t, labels, scale: (kept[t] * x - 1.5) / added[t])
    sample(tiny_model, scheduler, [3], 10, generator=seeded(), callback=lambda step, x: seen.append(x.clone()))
    noises = [(x - kept[t]) / added[t] for x, t in zip(seen, range(899, 0, -100))]
    for noise in noises:
        torch.testing.assert_close(noise, noises[0], atol=1e-3, rtol=1e-3)
