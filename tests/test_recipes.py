import pytest

from course_utils.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("count", [256, 61_440, 600_000])
def test_a_recipe_sees_about_as_many_images_as_asked_for(name, count):
    recipe = RECIPES[name].for_images(count)
    steps = [config.total_steps(60_000) for _, config in recipe.stages]
    batch_sizes = [config.batch_size for _, config in recipe.stages]
    seen = sum(number * batch_size for number, batch_size in zip(steps, batch_sizes, strict=True))
    assert seen == pytest.approx(count, abs=sum(batch_sizes))


def test_a_longer_recipe_keeps_its_proportions():
    (_, small), (_, whole) = RECIPES["fast"].for_images(614_400).stages
    assert (small.total_steps(60_000), whole.total_steps(60_000)) == (6_000, 3_600)


def test_changes_are_made_in_every_stage():
    changed = RECIPES["fast"].with_changes(learning_rate=5e-4)
    assert [config.learning_rate for _, config in changed.stages] == [5e-4, 5e-4]
    assert [size for size, _ in changed.stages] == [16, 28]
