from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from course_utils.data import ImageDataset
from course_utils.recipes import RECIPES, Recipe, resized, stage_seed
from course_utils.sampling import make_scheduler
from course_utils.training import Trainer, TrainingConfig, train
from tiny import make_tiny_model

FAST = TrainingConfig.fast(batch_size=20, max_steps=2)
TWO_STAGES = Recipe(make_tiny_model, ((16, FAST), (28, FAST)), "v_prediction", "dpmsolver++", 2, 1.5)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("count", [256, 61_440, 600_000])
def test_a_recipe_sees_about_as_many_images_as_asked_for(name, count):
    recipe = RECIPES[name].for_images(np.int64(count))
    steps = [config.total_steps(60_000) for _, config in recipe.stages]
    batch_sizes = [config.batch_size for _, config in recipe.stages]
    seen = sum(number * batch_size for number, batch_size in zip(steps, batch_sizes, strict=True))
    assert seen == pytest.approx(count, abs=sum(batch_sizes))


@pytest.mark.parametrize("count", [0, -1, 2.5, "256", None, True, float("nan")])
def test_an_impossible_number_of_images_is_refused(count):
    with pytest.raises(ValueError, match="count is .*, expected a whole number from 1"):
        RECIPES["fast"].for_images(count)


def test_a_longer_recipe_keeps_its_proportions():
    (_, small), (_, whole) = RECIPES["fast"].for_images(614_400).stages
    assert (small.total_steps(60_000), whole.total_steps(60_000)) == (6_000, 3_600)


def test_changes_are_made_in_every_stage():
    changed = RECIPES["fast"].with_changes(learning_rate=5e-4)
    assert [config.learning_rate for _, config in changed.stages] == [5e-4, 5e-4]
    assert [size for size, _ in changed.stages] == [16, 28]


@pytest.fixture
def first_draws(monkeypatch):
    """What each stage draws first: the order of the images, noise and timesteps."""
    draws, original = [], Trainer.loss

    def loss(trainer, images, labels):
        if trainer.step == 0:
            twin = torch.Generator()
            twin.set_state(trainer.generator.get_state())
            draws.append((labels, torch.randn(8, generator=twin), trainer.draw_timesteps(8)))
            trainer.generator.set_state(twin.get_state())
        return original(trainer, images, labels)

    monkeypatch.setattr(Trainer, "loss", loss)
    return draws


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if len(recipe.stages) > 1])
def test_no_stage_sees_what_another_has_seen(stripes, first_draws, name):
    recipe = replace(RECIPES[name].with_changes(max_steps=1, batch_size=20), make_model=make_tiny_model)
    for seed in (0, 1):
        recipe.train(stripes, seed, device="cpu", progress=False)
    assert len(first_draws) == 2 * len(recipe.stages)
    for number, draws in enumerate(first_draws):
        for others in first_draws[:number]:
            assert not any(torch.equal(one, other) for one, other in zip(draws, others, strict=True))


def test_seeds_of_stages_are_all_different_and_possible():
    seeds = [stage_seed(seed, number) for seed in (0, 1, 2, -(2**63), 2**64 - 1) for number in range(5)]
    assert len(set(seeds)) == len(seeds)
    for seed in seeds:
        torch.Generator().manual_seed(seed)


def test_a_recipe_of_one_stage_is_a_training_from_its_seed(stripes):
    pipe, run = replace(TWO_STAGES, stages=((28, FAST),)).train(stripes, 7, device="cpu", progress=False)
    torch.manual_seed(7)
    model = TWO_STAGES.untrained(stripes, 7).unet
    config = replace(FAST, seed=7)
    alone = train(model, stripes, make_scheduler("ddpm", "v_prediction"), config, "cpu", progress=False)
    assert run.losses == alone.losses
    assert all(torch.equal(a, b) for a, b in zip(pipe.unet.parameters(), alone.model.parameters(), strict=True))


@pytest.mark.parametrize("size, from_size", [(16, 28), (14, 28), (28, 64)])
def test_smaller_images_are_averaged(size, from_size):
    """As PIL does, whose bilinear filter is as wide as the new pixels; a chosen pixel would lose thin strokes."""
    noise = torch.randint(0, 256, (5, 1, from_size, from_size), generator=torch.Generator().manual_seed(0)).byte()
    ours = resized(ImageDataset(noise, torch.arange(5), list("01234")), size).images
    for image, result in zip(noise, ours, strict=True):
        expected = np.asarray(Image.fromarray(image[0].numpy()).resize((size, size), Image.Resampling.BILINEAR))
        assert np.abs(result[0].numpy().astype(int) - expected).max() <= 1
    assert ours.dtype == torch.uint8


def test_what_would_fail_at_the_end_is_refused_before_the_first_step(stripes, monkeypatch):
    monkeypatch.setattr(Trainer, "training_step", lambda self: pytest.fail("a step was taken"))
    for changes, dataset, seed, words in (
        (dict(stages=((28, FAST), (16, FAST))), stripes, 0, "have 16x16 pixels, but the network draws 28x28"),
        (dict(stages=((16, FAST), (18, FAST), (28, FAST))), stripes, 0, "18x18 pixels, expected multiples of 4"),
        (dict(stages=((16, FAST), (28, "fast"))), stripes, 0, "config is 'fast', expected TrainingConfig"),
        (dict(stages=()), stripes, 0, "has no stages"),
        (dict(sampler="euler"), stripes, 0, "unknown scheduler 'euler'"),
        (dict(num_inference_steps=0), stripes, 0, "num_inference_steps is 0"),
        (dict(guidance_scale=-1), stripes, 0, "guidance_scale is -1"),
        (dict(prediction_type="sample"), stripes, 0, "unknown prediction_type 'sample'"),
        ({}, stripes, "0", "seed is '0', expected a whole number"),
        ({}, stripes, 2**64, "seed is .*, expected a whole number"),
        ({}, "mnist", 0, "the data set is 'mnist', expected an ImageDataset"),
        ({}, torch.utils.data.Subset(stripes, [0]), 0, "expected an ImageDataset"),
    ):
        with pytest.raises(ValueError, match=words):
            replace(TWO_STAGES, **changes).train(dataset, seed, device="cpu", progress=False)
