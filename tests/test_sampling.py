import pytest
import torch

from course_utils import sampling
from course_utils.sampling import SCHEDULERS, make_scheduler, predict, sample
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


@pytest.mark.parametrize("name", ["ddpm", "dpmsolver++"])
def test_a_picture_does_not_depend_on_its_batch(tiny_model, name):
    scheduler = make_scheduler(name)
    together = sample(tiny_model, scheduler, [1, 2, 3, 4, 5], 3, generator=seeded())
    split = sample(tiny_model, scheduler, [1, 2, 3, 4, 5], 3, generator=seeded(), batch_size=2)
    alone = sample(tiny_model, scheduler, [1], 3, generator=seeded())
    torch.testing.assert_close(together, split, atol=1e-4, rtol=0)
    torch.testing.assert_close(together[:1], alone, atol=1e-4, rtol=0)


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
    assert seen == [(0, 2), (1, 2), (2, 2), (3, 2), (0, 1), (1, 1), (2, 1), (3, 1)]


@pytest.mark.parametrize("steps", [0, -1, 5000, 2.5, "ten", None, True])
def test_bad_steps(tiny_model, steps):
    with pytest.raises(ValueError, match="whole number from 1 to 1000"):
        sample(tiny_model, make_scheduler(), [3], steps)


@pytest.mark.parametrize("scale", [-1, 1000, "much", float("nan")])
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
