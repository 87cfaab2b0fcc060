"""Checkers, tried with right answers in other styles, with the wrong ones that learners give, and with the stubs."""

from unittest.mock import MagicMock

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from torch import nn
from torch.nn import functional as F

from course_utils import exercises
from course_utils.exercises.exercise import NumberExercise, Outcome


def spread(vectors, height, width):
    return vectors.view(*vectors.shape, 1, 1).repeat(1, 1, height, width)


def concatenate_with_a_loop(pictures, vectors):
    parts = [pictures]
    for channel in range(vectors.shape[1]):
        parts.append(torch.ones_like(pictures) * vectors[:, channel].reshape(-1, 1, 1, 1))
    return torch.concat(parts, 1)


def one_hot_with_scatter(class_labels, num_classes, height, width):
    channels = torch.zeros(len(class_labels), num_classes, height, width)
    for i, label in enumerate(class_labels):
        channels[i, label] = 1
    return channels


def identity_by_hand(num_classes):
    embedding = nn.Embedding(num_classes, num_classes)
    embedding.weight.data = torch.diag(torch.ones(num_classes))
    embedding.weight.requires_grad = False
    return embedding


def identity_trained(num_classes):
    embedding = nn.Embedding(num_classes, num_classes)
    embedding.weight.data = torch.eye(num_classes)
    return embedding


def recall_with_a_loop(confusion):
    return torch.tensor([(row[i] / row.sum()).item() for i, row in enumerate(confusion)])


def changes_its_arguments(pictures, vectors):
    result = torch.cat((pictures, spread(vectors, *pictures.shape[2:])), 1)
    pictures.zero_()
    return result


RIGHT = {
    "input_channels": [
        lambda class_emb_size: class_emb_size + 1,
        lambda size: torch.zeros(1, 1 + size, 2, 2).shape[1],
    ],
    "concatenate": [
        concatenate_with_a_loop,
        lambda x, v: torch.cat([x, spread(v, x.shape[2], x.shape[3])], dim=-3),
    ],
    "extra_parameters": [
        1788,
        sum(p.numel() for p in (nn.Embedding(10, 10).weight, nn.Conv2d(11, 32, 3).weight))
        - sum(p.numel() for p in (nn.Embedding(10, 4).weight, nn.Conv2d(5, 32, 3).weight)),
        np.int64(1788),
        torch.tensor(1788),
        np.array([1788]),
        np.longdouble(1788),
        1788.0,
    ],
    "between": [
        lambda embedding, a, b, share: torch.lerp(embedding.weight[a], embedding.weight[b], share),
        lambda embedding, a, b, share: (
            embedding(torch.tensor(a)) + share * (embedding(torch.tensor(b)) - embedding(torch.tensor(a)))
        ),
    ],
    "one_hot_channels": [
        one_hot_with_scatter,
        lambda labels, n, h, w: torch.eye(n)[labels].reshape(-1, n, 1, 1).repeat(1, 1, h, w),
        lambda labels, n, h, w: (labels[:, None] == torch.arange(n)).float()[..., None, None].expand(-1, -1, h, w),
    ],
    "parameter_difference": [1688, 10 * 32 * 9 - 4 * 32 * 9 - 10 * 4],
    "identity_embedding": [
        identity_by_hand,
        lambda n: nn.Embedding(n, n, _weight=torch.eye(n)).requires_grad_(False),
    ],
    "training_flops": [
        lambda steps, batch, flops: (flops + 2 * flops) * batch * steps,
        lambda *numbers: 3.0 * float(np.prod([float(number) for number in numbers])),
    ],
    "class_recall": [
        recall_with_a_loop,
        lambda confusion: torch.diagonal(confusion.float() / confusion.float().sum(1, keepdim=True)),
    ],
}

# Each with a part of the sentence that the learner should read.
WRONG = {
    "input_channels": [
        (lambda size: size, "picture itself"),
        (lambda size: size + 3, "grey"),
        (lambda size: 5, "example's size only"),
        (lambda size: size * 2, "too"),
        (lambda size: size - 1, "too small"),
        (lambda size: str(size + 1), "the text"),
        (lambda size: print(size), "return"),
        (5, "function itself"),
    ],
    "concatenate": [
        (lambda x, v: torch.cat((spread(v, *x.shape[2:]), x), 1), "picture comes first"),
        (lambda x, v: torch.cat((x, spread(torch.zeros_like(v), *x.shape[2:])), 1), "only zeros"),
        (lambda x, v: torch.cat((x, spread(v[:1], *x.shape[2:]).repeat(len(x), 1, 1, 1)), 1), "first picture's"),
        (lambda x, v: torch.cat((x, spread(v.int().float(), *x.shape[2:])), 1), "whole numbers"),
        (lambda x, v: spread(v, *x.shape[2:]), "picture is missing"),
        (lambda x, v: x + spread(v, *x.shape[2:]).sum(1, keepdim=True), "not concatenated"),
        (lambda x, v: torch.cat((x, spread(v, *x.shape[2:])), 1).int(), "dtype"),
        (lambda x, v: torch.cat((x, spread(v.flip(0), *x.shape[2:])), 1), "values"),
        (lambda x, v: torch.cat((x, spread(v, *x.shape[2:])), 1)[0], "shape"),
        (lambda x, v: torch.cat((x, spread(v, *x.shape[2:])), 1).numpy(), "wanted a tensor"),
        (lambda x, v: torch.cat((x, torch.randn(len(x), v.shape[1], *x.shape[2:])), 1), "values"),
        (lambda x, v: torch.cat((x, x.expand(-1, v.shape[1], -1, -1)), 1), "values"),
        (changes_its_arguments, "changes its argument 1"),
        (lambda x, v: None, "return"),
        (torch.zeros(2, 5, 28, 28), "function itself"),
    ],
    "extra_parameters": [
        (60, "reads those numbers"),
        (1728, "must also be stored"),
        (6, "How many weights"),
        (100, "too|table"),
        (1787, "too small"),
        (10**9, "too large"),
        (1788.5, "whole number"),
        ("1788", "whole number"),
        (None, "whole number"),
        (True, "whole number"),
        (float("nan"), "whole number"),
        ([1788, 1], "whole number"),
    ],
    "between": [
        (lambda e, a, b, share: torch.lerp(e.weight[b], e.weight[a], share), "swapped"),
        (lambda e, a, b, share: e.weight[[a, b]].mean(0), "halfway"),
        (lambda e, a, b, share: e.weight[a] + share * e.weight[b], "full weight"),
        (lambda e, a, b, share: e.weight[int(a + share * (b - a))], "mixed the labels"),
        (lambda e, a, b, share: torch.lerp(e.weight[a], e.weight[b], share)[None], "axis too many"),
        (lambda e, a, b, share: e.weight[a], "values"),
        (lambda e, a, b, share: share, "wanted a tensor"),
    ],
    "one_hot_channels": [
        (lambda labels, n, h, w: spread(F.one_hot(labels, n), h, w), "floats"),
        (lambda labels, n, h, w: spread(F.one_hot(labels).float(), h, w), "which labels are in the batch"),
        (lambda labels, n, h, w: spread(F.one_hot(labels, n).float(), w, h), "swapped"),
        (lambda labels, n, h, w: spread(F.one_hot((labels + 1) % n, n).float(), h, w), "channel of the next class"),
        (lambda labels, n, h, w: spread(F.one_hot(labels, n + 1).float(), h, w), "one channel too many"),
        (lambda labels, n, h, w: spread(F.one_hot(labels, n).float(), h, w).transpose(0, 1), "axes"),
        (lambda labels, n, h, w: F.one_hot(labels, n).float(), "every pixel"),
        (lambda labels, n, h, w: F.one_hot(labels, n).float()[..., None, None], "every pixel"),
        (lambda labels, n, h, w: spread((labels / n)[:, None].repeat(1, n), h, w), "label as a number"),
        (lambda labels, n, h, w: torch.ones(len(labels), n, h, w), "values"),
        (lambda labels, n, h, w: spread(F.one_hot(labels, n).bool(), h, w), "dtype"),
    ],
    "parameter_difference": [
        (1728, "is missing in the one-hot network"),
        (-1688, "sign"),
        (1788, "no table"),
        (0, "too small"),
        (1689, "too large"),
        ("many", "whole number"),
    ],
    "identity_embedding": [
        (identity_trained, "training would change"),
        (lambda n: nn.Embedding.from_pretrained(torch.zeros(n, n)), "rows are equal"),
        (lambda n: nn.Embedding(n, n).requires_grad_(False), "values"),
        (lambda n: nn.Embedding.from_pretrained(torch.eye(n + 1)), "too many"),
        (lambda n: torch.eye(n), "wanted an `nn.Embedding`"),
        (lambda n: nn.Embedding.from_pretrained(torch.eye(n)[1:]), "shape"),
        (nn.Embedding(10, 10), "function itself"),
    ],
    "training_flops": [
        (lambda steps, batch, flops: steps * batch * flops, "forward only"),
        (lambda steps, batch, flops: 2 * steps * batch * flops, "twice"),
        (lambda steps, batch, flops: 3 * steps * flops, "whole batch"),
        (lambda steps, batch, flops: 3 * batch * flops, "single step"),
        (lambda steps, batch, flops: 4 * steps * batch * flops, "too large"),
        (lambda steps, batch, flops: True, "wanted a number"),
        (lambda steps, batch, flops: float("nan"), "finite number"),
        (lambda steps, batch, flops: torch.tensor(torch.inf), "finite number"),
        (lambda steps, batch, flops: 10**5000, "5,001 digits"),
    ],
    "class_recall": [
        (lambda c: c.diag() / c.sum(0), "precision"),
        (lambda c: c.diag() / c.sum(), "all pictures"),
        (lambda c: c.diag().sum() / c.sum(), "a number for each class"),
        (lambda c: (c.diag().sum() / c.sum()).item(), "a number for each class"),
        (lambda c: c.diag(), "counts"),
        (lambda c: 100 * c.diag() / c.sum(1), "percentages"),
        (lambda c: c / c.sum(1, keepdim=True), "diagonal"),
        (lambda c: (c.diag() / c.sum(1)).tolist(), "wanted a tensor"),
        (lambda c: c.diag() // c.sum(1), "dtype"),
    ],
}

RAISES = {
    "input_channels": [lambda: 5, lambda size: size + "1"],
    "concatenate": [
        lambda x, v: torch.cat((x, v), 1),  # the axes are missing
        lambda x, v: torch.cat((x, v[:, :, None, None]), 1),  # the expand is missing
        lambda x, v: torch.cat((x, spread(v, *x.shape[2:])), 0),  # the wrong axis
        lambda x, v: torch.cat((x, spread(v, x.shape[3], x.shape[2])), 1),  # height and width swapped
        lambda x, v: torch.cat((x, spread(v, 28, 28)), 1),  # only ever 28 pixels
        lambda x: x,
    ],
    "between": [lambda e, a, b, share: (1 - share) * e[a] + share * e[b]],
    "one_hot_channels": [
        lambda labels, n, h, w: F.one_hot(labels, n).expand(-1, -1, h, w),
        lambda labels, n, h, w: F.one_hot(labels + n, n).float(),
        lambda labels, n, h, w: exit("no"),
    ],
    "identity_embedding": [lambda n: nn.Embedding.from_pretrained(n)],
    "training_flops": [lambda steps: steps, lambda a, b, c: a / 0],
    "class_recall": [lambda confusion: confusion.diag() / confusion.sum(2)],
}  # fmt: skip


def pairs(answers):
    """(exercise, answer) for each answer, with a readable name."""
    return [
        pytest.param(exercise, answer, id=f"{exercise.name}-{i}")
        for exercise in exercises.ALL
        for i, answer in enumerate(answers.get(exercise.name, ()))
    ]


@pytest.mark.parametrize("exercise", exercises.ALL, ids=lambda exercise: exercise.name)
def test_the_solutions_text_is_right(exercise):
    outcome = exercise.check(exercise.reference())
    assert outcome.correct, outcome


@pytest.mark.parametrize("exercise, answer", pairs(RIGHT))
def test_right_answers_in_other_styles_are_correct(exercise, answer):
    assert exercise.check(answer).status == "correct"


@pytest.mark.parametrize("exercise, case", pairs(WRONG))
def test_wrong_answers_are_told_what_is_wrong(exercise, case):
    answer, words = case
    outcome = exercise.check(answer)
    assert outcome.status == "incorrect"
    assert any(word in outcome.message for word in words.split("|")), outcome.message


@pytest.mark.parametrize("exercise, answer", pairs(RAISES))
def test_exceptions_of_the_learners_code_are_shown_with_the_arguments(exercise, answer):
    outcome = exercise.check(answer)
    assert outcome.status == "raised"
    assert "Called with" in outcome.message and "Error" in outcome.message or "Exit" in outcome.message


class UntouchedUnet(nn.Module):
    """The class as notebook 2 leaves it to the learner."""

    def __init__(self, num_classes=10, class_emb_size=4):
        super().__init__()
        self.class_emb = ...
        self.model = ...

    def forward(self, x, timesteps, labels):
        return ...


@pytest.mark.parametrize("exercise", exercises.ALL, ids=lambda exercise: exercise.name)
def test_untouched_stubs_are_not_attempted(exercise):
    assert exercise.check(...).status == "not attempted"
    if exercise is exercises.conditioned_unet:
        assert exercise.check(UntouchedUnet).status == "not attempted"
    elif exercise is exercises.diagnoses:
        assert exercise.check(dict.fromkeys("ABCDE", ...)).status == "not attempted"
    elif not isinstance(exercise, NumberExercise):
        assert exercise.check(lambda *arguments: ...).status == "not attempted"


@pytest.mark.parametrize("exercise, case", pairs(WRONG))
def test_no_verdict_gives_the_answer_away(exercise, case):
    message = exercise.check(case[0]).message
    given = case[0]
    for line in exercise.solution_text.splitlines():
        code = line.split("#")[0].strip()
        assert len(code) < 12 or code.startswith(("import", "from", "def")) or code not in message
    if isinstance(exercise, NumberExercise) and not isinstance(given, str):
        assert str(exercise.reference()) not in message.replace(",", "").replace(str(given), "")


class Liar:
    """Says that it equals everything, that it is any number, and that it is of another class."""

    __class__ = property(lambda self: self.pretended)

    def __init__(self, pretended):
        self.pretended = pretended

    def __eq__(self, other):
        return True

    def __float__(self):
        return 1788.0

    __int__ = __index__ = lambda self: 1788
    __le__ = __lt__ = __ge__ = __gt__ = __eq__
    __sub__ = __rsub__ = __abs__ = lambda self, *others: self
    __hash__ = None


class LyingNumber(int):
    """A wrong number that says it is the right one."""

    __eq__ = __le__ = __lt__ = __ge__ = __gt__ = lambda self, other: True
    __int__ = __index__ = __float__ = __round__ = lambda self: 1788
    __hash__ = int.__hash__


class LyingTensor(torch.Tensor):
    """A wrong tensor for which every comparison comes out well."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return torch.tensor(True)


class Mute(Exception):
    """An exception that cannot say what it is."""

    def __str__(self):
        raise ValueError("no words")


def stops(error):
    def stop(*arguments):
        raise error

    return stop


NUMBERS = st.one_of(
    st.sampled_from(
        [float("nan"), float("inf"), -float("inf"), 10**400, -(10**400), 10**5000, -0.0, 1e308, True, False]
    ),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
)
OF_NUMPY = st.builds(
    lambda make: make(),
    st.sampled_from(
        [lambda: np.bool_(True), lambda: np.float16("nan"), lambda: np.longdouble("inf"), lambda: np.complex64(1788)]
        + [lambda: np.timedelta64(1788), lambda: np.datetime64("nat"), lambda: np.ma.masked, lambda: np.zeros((2, 2))]
        + [lambda value=value: np.array(value) for value in (None, "text", [], float("nan"), 1788 + 0j, [1788, 1788])]
        + [lambda: np.array([object()]), lambda: np.array(1788, dtype=object)]
    ),
)
OF_TORCH = st.builds(
    lambda shape, dtype, device: torch.zeros(shape, dtype=dtype, device=device),
    st.sampled_from([(), (1,), (0,), (2, 5), (2, 5, 3, 3)]),
    st.sampled_from([torch.float16, torch.float32, torch.float64, torch.int64, torch.bool, torch.complex64]),
    st.sampled_from(["cpu", "meta"]),
)
ODD_TENSORS = st.builds(
    lambda make: make(),
    st.sampled_from(
        [
            lambda: torch.zeros(1).expand(10**12),  # as large as it likes, in four bytes
            lambda: torch.eye(3).to_sparse(),
            lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
            lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
            lambda: torch.zeros(10).as_subclass(LyingTensor),
            lambda: torch.tensor(float("nan")),
            lambda: nn.Embedding(10, 10, device="meta"),
            lambda: nn.Embedding(10, 10).double(),
            lambda: nn.Linear(2, 2),
        ]
    ),
)
OBJECTS = st.builds(
    lambda make: make(),
    st.sampled_from(
        [object, lambda: None, lambda: print, lambda: type, lambda: nn.Linear, lambda: LyingNumber(7), lambda: Ellipsis]
        + [lambda kind=kind: Liar(kind) for kind in (int, float, torch.Tensor, nn.Embedding, np.ndarray)]
        + [lambda: (i for i in range(3)), lambda: [1788, 1], lambda: {1788}, lambda: range(1788), MagicMock]
    ),
)
ANYTHING = st.one_of(NUMBERS, OF_NUMPY, OF_TORCH, ODD_TENSORS, OBJECTS, st.text(), st.binary())


def assert_not_correct(exercise, answer):
    outcome = exercise.judge(answer)
    assert outcome.status in ("incorrect", "raised", "not attempted")
    assert 10 < len(outcome.message) < 1000 and outcome.message.strip().endswith((".", "?", "`"))


@pytest.mark.parametrize("exercise", exercises.ALL, ids=lambda exercise: exercise.name)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(anything=ANYTHING)
def test_nothing_but_a_right_answer_is_correct_or_makes_check_raise(exercise, anything):
    """As the answer, and as what the learner's function returns."""
    if isinstance(exercise, NumberExercise):
        hypothesis.assume(type(anything) not in (int, float) or anything != exercise.reference())
    assert_not_correct(exercise, anything)
    assert_not_correct(exercise, lambda *arguments: anything)
    assert_not_correct(exercise, lambda *arguments: (yield anything))


@pytest.mark.parametrize("exercise", exercises.ALL, ids=lambda exercise: exercise.name)
@pytest.mark.parametrize(
    "error", [Mute(), SystemExit("no"), GeneratorExit(), BaseException("\n\n"), ValueError("x" * 10**6)]
)
def test_whatever_the_learners_code_raises_is_an_outcome(exercise, error):
    assert_not_correct(exercise, stops(error))


def test_a_message_that_no_encoding_holds_is_shown(capsys):
    exercises.input_channels.check(stops(ValueError("half a sign: \ud83d")))
    assert "half a sign: ?" in capsys.readouterr().out


def test_a_learner_can_interrupt_a_check():
    with pytest.raises(KeyboardInterrupt):
        exercises.input_channels.check(stops(KeyboardInterrupt()))


SPOILED = {
    "no number in one place": lambda right: torch.cat((right.flatten()[:-1], torch.tensor([torch.nan]))).view(
        right.shape
    ),
    "infinite in one place": lambda right: torch.cat((right.flatten()[:-1], torch.tensor([torch.inf]))).view(
        right.shape
    ),
    "more exact": lambda right: right.double(),
    "less exact": lambda right: right.half(),
    "complex": lambda right: right.to(torch.complex64),
    "another device": lambda right: right.to("meta"),
    "sparse": lambda right: right.to_sparse(),
    "an array": lambda right: right.detach().numpy(),
    "an array of objects": lambda right: right.detach().numpy().astype(object),
    "a list": lambda right: right.tolist(),
    "a tuple": lambda right: (right,),
    "a subclass": lambda right: right.as_subclass(LyingTensor),
    "a generator": lambda right: iter(right),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
@pytest.mark.parametrize(
    "exercise",
    [exercises.concatenation, exercises.between, exercises.one_hot_channels, exercises.class_recall],
    ids=lambda exercise: exercise.name,
)
def test_right_values_in_a_wrong_form_are_incorrect(exercise, spoil):
    right = exercise.reference()
    outcome = exercise.judge(lambda *arguments: spoil(right(*arguments)))
    assert outcome.status == "incorrect" and ", wanted " in outcome.message or "values are not" in outcome.message


SPOILED_EMBEDDINGS = {
    "its rows are cut down": lambda n: nn.Embedding.from_pretrained(torch.eye(n), max_norm=0.5),
    "it does something else": lambda n: with_forward(nn.Embedding.from_pretrained(torch.eye(n)), lambda labels: None),
    "another device": lambda n: nn.Embedding.from_pretrained(torch.eye(n)).to("meta"),
    "more exact": lambda n: nn.Embedding.from_pretrained(torch.eye(n).double()),
    "a class of the learner's": lambda n: type("Mine", (nn.Embedding,), {}).from_pretrained(torch.eye(n)),
}


def with_forward(embedding, forward):
    embedding.forward = forward
    return embedding


@pytest.mark.parametrize("make", SPOILED_EMBEDDINGS.values(), ids=SPOILED_EMBEDDINGS)
def test_an_embedding_that_only_looks_right_is_incorrect(make):
    assert exercises.identity_embedding.judge(make).status == "incorrect"


@pytest.mark.parametrize("name, change", {
    "concatenate": lambda x, v: v.mul_(1.000002),
    "between": lambda embedding, *others: embedding.weight.data.add_(1e-7),
    "one_hot_channels": lambda labels, *others: labels.clamp_(max=1),
    "class_recall": lambda confusion: confusion.add_(1),
}.items())  # fmt: skip
def test_a_function_that_changes_what_it_is_given_is_told_so(name, change):
    exercise = next(exercise for exercise in exercises.ALL if exercise.name == name)

    def answer(*arguments):
        right = exercise.reference()(*arguments)
        change(*arguments)
        return right

    outcome = exercise.judge(answer)
    assert outcome.status == "incorrect" and "changes its argument" in outcome.message


def test_answers_are_judged_on_the_processor_whatever_the_default_device():
    torch.set_default_device("meta")
    try:
        for exercise in exercises.ALL:
            assert exercise.judge(exercise.reference()).correct
    finally:
        torch.set_default_device(None)


def test_checks_leave_the_global_random_state_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    for exercise in exercises.ALL:
        exercise.check(exercise.reference())
    assert torch.equal(before, torch.get_rng_state())


def test_verdicts_are_plain_text_outside_notebooks(capsys):
    outcome = exercises.extra_parameters.check(60)
    assert outcome.message in capsys.readouterr().out


def test_in_a_notebook_a_verdict_is_shown_once():
    shell = InteractiveShell.instance()
    try:
        with shell.builtin_trap, shell.display_trap:
            from IPython.utils.capture import capture_output

            with capture_output() as captured:
                shell.run_cell("from course_utils import exercises\nexercises.extra_parameters.check(60)")
        shown = [output.data for output in captured.outputs if output.data]
        assert len(shown) == 1 and "Not yet" in shown[0]["text/markdown"]
    finally:
        InteractiveShell.clear_instance()


def test_hints_come_one_by_one_and_the_last_one_stays(capsys):
    exercise = exercises.concatenation
    exercise.hints_shown = 0
    for _ in range(len(exercise.hints) + 1):
        exercise.hint()
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split("**")[1] for line in lines] == [f"Hint {i} of 3." for i in (1, 2, 3, 3)]


def test_solution_shows_the_text_that_the_tests_run(capsys):
    exercises.between.solution()
    assert exercises.between.solution_text in capsys.readouterr().out


def test_later_cells_go_on_with_a_right_answer_or_say_that_they_do_not(capsys):
    mine = RIGHT["concatenate"][0]
    assert exercises.concatenation.right_or_reference(mine) is mine
    assert capsys.readouterr().out == ""
    reference = exercises.concatenation.right_or_reference(lambda x, v: x)
    assert exercises.concatenation.check(reference).correct
    assert "reference answer" in capsys.readouterr().out


def test_outcomes_read_well():
    assert str(Outcome("not attempted", "Try.")) == "… Not attempted yet. Try."
