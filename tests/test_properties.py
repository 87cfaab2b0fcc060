"""What holds for every network, sampler and setting: each test tries many of them, the same ones every time."""

from functools import cache, partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.model import CONDITIONINGS, check_class_labels
from course_utils.pipeline import OUTPUT_TYPES, ClassConditionedPipeline
from course_utils.sampling import SCHEDULERS, make_scheduler, make_solver, sample
from tiny import make_tiny_model


def examples(count: int):
    """So many cases, drawn the same way each time, without a clock and without a memory of earlier runs."""
    return settings(max_examples=count, derandomize=True, deadline=None, database=None)


@cache
def make_model(conditioning: str, unconditional: bool = True):
    """A network that draws in milliseconds, made once."""
    return make_tiny_model(
        conditioning=conditioning,
        unconditional=unconditional,
        block_out_channels=(4, 4),
        norm_num_groups=2,
        attention_levels=(),
        attention_head_dim=4,
    ).eval()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
KINDS = {
    "list": lambda labels, dtype: labels,
    "tuple": lambda labels, dtype: tuple(labels),
    "tensor": lambda labels, dtype: torch.tensor(labels).to(getattr(torch, dtype)),
    "array": lambda labels, dtype: np.array(labels, dtype=dtype),
    "big-endian": lambda labels, dtype: np.array(labels, dtype=np.dtype(dtype).newbyteorder(">")),
    "backwards": lambda labels, dtype: np.array(labels[::-1], dtype=dtype)[::-1],
    "scalars": lambda labels, dtype: [np.dtype(dtype).type(label) for label in labels],
    "whole floats": lambda labels, dtype: [float(label) for label in labels],
}
in_range = st.lists(st.integers(0, 9), min_size=1, max_size=4)
models = st.builds(make_model, st.sampled_from(CONDITIONINGS))
schedulers = st.builds(make_scheduler, st.sampled_from(list(SCHEDULERS)), st.sampled_from(["epsilon", "v_prediction"]))
guidances = st.sampled_from([1, 1.0]) | st.floats(0, 20)
seeds = st.integers(0, 2**63 - 1)


def rounding(scheduler) -> float:
    """How far two pictures may lie apart by rounding alone.

    At t = 999 a predicted noise is multiplied by 20,000 to become a picture, and so is its rounding; a velocity is not.
    """
    factor = (1 / scheduler.alphas_cumprod[-1] - 1).sqrt() if scheduler.config.prediction_type == "epsilon" else 20
    return 2e-6 * float(factor)


@examples(200)
@given(in_range, st.sampled_from(list(KINDS)), st.sampled_from(DTYPES))
def test_labels_are_the_same_in_every_form(labels, kind, dtype):
    assert check_class_labels(KINDS[kind](labels, dtype), 10).tolist() == labels


@examples(100)
@given(models, schedulers, in_range, st.integers(1, 4), guidances, seeds, st.booleans(), st.integers(1, 5))
def test_pictures_are_finite_repeatable_and_leave_everything_as_it_was(
    model, scheduler, labels, steps, guidance, seed, training, batch_size
):
    model.train(training)
    timesteps, config, state = scheduler.timesteps.clone(), dict(scheduler.config), torch.get_rng_state()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    calls = []
    first = sample(model, scheduler, labels, steps, guidance, seeded(seed), callback=lambda *call: calls.append(call))
    again = sample(model, scheduler, labels, steps, guidance, seeded(seed), batch_size=batch_size)
    assert first.shape == (len(labels), 1, 28, 28) and first.dtype == torch.float32
    assert first.isfinite().all() and first.abs().max() <= 1 and not first.requires_grad
    assert [step for step, _ in calls] == list(range(steps))
    if batch_size >= len(labels):
        assert torch.equal(first, again)
    assert model.training is training and torch.equal(torch.get_rng_state(), state)
    assert torch.equal(scheduler.timesteps, timesteps) and dict(scheduler.config) == config
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@examples(50)
@given(models, schedulers, in_range, st.integers(1, 3), st.floats(0, 5), seeds, st.integers(1, 5), st.randoms())
def test_a_picture_does_not_depend_on_its_batch(model, scheduler, labels, steps, guidance, seed, batch_size, chance):
    def draw(places, **options):
        generators = [seeded((seed + place) % 2**63) for place in places]
        return sample(model, scheduler, [labels[place] for place in places], steps, guidance, generators, **options)

    places, close = list(range(len(labels))), partial(torch.testing.assert_close, atol=rounding(scheduler), rtol=0)
    together = draw(places)
    close(draw(places, batch_size=batch_size), together)
    chance.shuffle(places)
    close(draw(places), together[places])
    close(draw(places[:1]), together[places[:1]])


@examples(50)
@given(in_range, st.sampled_from(OUTPUT_TYPES), st.integers(1, 3), seeds, st.sampled_from(CONDITIONINGS))
def test_a_pipeline_draws_what_sample_draws(labels, output_type, steps, seed, conditioning):
    model, scheduler = make_model(conditioning), make_scheduler("ddim")
    pipe = ClassConditionedPipeline(model, scheduler, "mnist", steps, 2.0)
    drawn = pipe(labels, generator=seeded(seed), output_type=output_type).images
    expected = (sample(model, scheduler, labels, steps, 2.0, seeded(seed)) + 1) / 2
    if output_type == "pil":
        drawn = np.stack([np.asarray(picture) for picture in drawn])[:, None] / 255
    elif output_type == "np":
        drawn = drawn.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(np.asarray(drawn), expected.numpy(), atol=1 / 255)


@examples(300)
@given(schedulers, st.integers(1, 1000))
def test_every_number_of_steps_gives_as_many_timesteps(scheduler, steps):
    timesteps = make_solver(scheduler, steps).timesteps.tolist()
    assert len(timesteps) == steps and timesteps == sorted(set(timesteps), reverse=True)
    assert 0 <= timesteps[-1] and timesteps[0] <= 999


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_number_of_steps_that_diffusers_rounds_up_is_kept(name):
    steps = []
    drawn = sample(
        make_model("time"), make_scheduler(name), [3], 61, 1.0, seeded(0), callback=lambda step, x: steps.append(step)
    )
    assert steps == list(range(61)) and drawn.isfinite().all()


@examples(60)
@given(models, st.integers(1, 3), st.integers(0, 40), st.integers(0, 40), st.sampled_from([torch.float32, torch.int64]))
def test_pictures_of_any_size_go_through_or_are_refused(model, batch, height, width, dtype):
    x, labels = torch.zeros(batch, 1, height, width, dtype=dtype), torch.arange(batch)
    if dtype == torch.float32 and height and width and height % 2 == width % 2 == 0:
        with torch.no_grad():
            assert model(x, 5, labels).shape == x.shape
    else:
        refused(lambda: model(x, 5, labels))


def refused(call):
    """A ValueError in one line, and nothing else."""
    with pytest.raises(ValueError) as error:
        call()
    assert type(error.value) is ValueError
    message = str(error.value)
    assert message and "\n" not in message and len(message) < 500 and message.encode()


numbers_out_of_range = st.integers(max_value=-1) | st.integers(min_value=10)
fractions = st.floats().filter(lambda number: not (number.is_integer() and 0 <= number <= 9))
no_numbers = (
    st.none() | st.text() | st.booleans() | st.complex_numbers() | st.binary() | st.dictionaries(st.text(), st.text())
)
bad_label = numbers_out_of_range | fractions | no_numbers
bad_labels = st.one_of(
    bad_label,
    st.just([]),
    st.lists(st.lists(st.integers(0, 9), max_size=3), min_size=1, max_size=3),
    st.builds(lambda good, bad: [*good, bad], in_range, numbers_out_of_range | fractions | st.none() | st.text()),
    st.builds(lambda good, bad: torch.tensor([*good, bad], dtype=torch.float64), in_range, fractions),
    st.builds(lambda good, bad: torch.tensor([*good, bad]), in_range, st.integers(10, 2**62)),
    st.builds(lambda good, bad: np.array([*good, bad]), in_range, st.integers(10, 2**62) | st.text(min_size=1)),
    st.builds(lambda rows: np.full((rows, rows), "a"), st.integers(1, 30)),
    st.builds(lambda rows: torch.zeros(rows, rows, rows), st.integers(0, 30)),
    st.builds(lambda dtype: torch.tensor([1, 11]).to(getattr(torch, dtype)), st.sampled_from(DTYPES)),
    st.just(object()),
)


@examples(400)
@given(bad_labels)
def test_bad_labels_are_refused(labels):
    refused(lambda: sample(make_model("time"), make_scheduler(), labels, 1))


no_whole_number = st.floats() | st.text() | st.none() | st.booleans() | st.lists(st.integers()) | st.binary()


@examples(150)
@given(schedulers, st.integers(max_value=0) | st.integers(min_value=1001) | no_whole_number)
def test_bad_steps_are_refused(scheduler, steps):
    refused(lambda: sample(make_model("time"), scheduler, [3], steps))


@examples(150)
@given(
    st.floats(max_value=0, exclude_max=True)
    | st.floats(min_value=20, exclude_min=True)
    | st.sampled_from([float("nan"), True, None, "1", [1.0], 1j, 10**400, torch.tensor([1.0, 2.0])])
)
def test_bad_guidance_is_refused(guidance):
    refused(lambda: sample(make_model("time"), make_scheduler(), [3], 1, guidance))


@examples(100)
@given(st.integers(max_value=0) | no_whole_number.filter(lambda size: size is not None))
def test_a_bad_batch_size_is_refused(batch_size):
    refused(lambda: sample(make_model("time"), make_scheduler(), [3], 1, batch_size=batch_size))


@examples(50)
@given(st.integers() | st.text(min_size=1) | st.lists(st.integers(), min_size=1))
def test_a_bad_generator_is_refused(generator):
    refused(lambda: sample(make_model("time"), make_scheduler(), [3], 1, generator=generator))


@examples(100)
@given(no_whole_number, no_whole_number)
def test_unknown_names_are_refused(one, other):
    refused(lambda: make_scheduler(one))
    refused(lambda: make_scheduler("ddim", one))
    refused(lambda: ClassConditionedPipeline(make_model("time"), make_scheduler())([3], output_type=other))


@examples(100)
@given(no_whole_number.filter(lambda name: not isinstance(name, str)) | st.text(min_size=101) | st.just("a\nb"))
def test_bad_data_set_names_are_refused(name):
    refused(lambda: ClassConditionedPipeline(make_model("time"), make_scheduler(), name))


@examples(50)
@given(st.sampled_from(CONDITIONINGS), st.floats(0, 20).filter(lambda guidance: guidance != 1))
def test_guidance_without_no_class_is_refused(conditioning, guidance):
    model = make_model(conditioning, unconditional=False)
    refused(lambda: sample(model, make_scheduler(), [3], 1, guidance))
    refused(lambda: ClassConditionedPipeline(model, make_scheduler(), "mnist", 1, guidance))
