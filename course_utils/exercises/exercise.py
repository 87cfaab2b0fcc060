"""What an exercise is: it judges the object that it is handed, gives hints, and shows its solution."""

import inspect
import os
import random
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FunctionType

import numpy as np
import torch

from course_utils import minimal
from course_utils.display import show_text
from course_utils.exercises.comparing import copied, difference, in_words, is_unchanged, number_in_words, plain_number
from course_utils.validation import in_one_line

NOT_ATTEMPTED, INCORRECT, RAISED, CORRECT = "not attempted", "incorrect", "raised", "correct"
HEADINGS = {
    CORRECT: "✔ Correct.",
    INCORRECT: "✘ Not yet.",
    RAISED: "⚠ Your code raised an exception.",
    NOT_ATTEMPTED: "… Not attempted yet.",
}

WRONG_BEFORE_A_HINT = 3  # from this wrong answer on, `check` shows a hint by itself
LOCK = "COURSE_LOCK_SOLUTIONS"  # environment variable: a teacher sets it to 1, and `solution()` shows nothing


@dataclass(frozen=True)
class Outcome:
    """What a checker found.

    Attributes:
        status: "correct", "incorrect", "raised" (the learner's code raised an exception) or "not attempted".
        message: what was found and what was wanted, in words, without the answer.
    """

    status: str
    message: str

    @property
    def correct(self) -> bool:
        """Whether the answer is right."""
        return self.status == CORRECT

    def __str__(self):
        return f"{HEADINGS[self.status]} {self.message}"

    def _ipython_display_(self):
        """Nothing: `check` has shown it already, also where it is not the last line of a cell."""


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that learners often give.

    Attributes:
        answer: gives what that wrong answer gives, from the same arguments.
        says: what is wrong with it, in a sentence that does not give the answer away.
    """

    answer: Callable
    says: str


@dataclass
class Exercise:
    """A question whose answer can be checked. See `FunctionExercise` and `NumberExercise`.

    Attributes:
        name: of the object that the learner writes.
        solution_text: the code of a right answer; run, it defines that object.
        praise: a sentence that adds something, for a right answer.
        hints: from a nudge to nearly the answer.
    """

    name: str
    solution_text: str
    praise: str
    hints: tuple[str, ...]
    hints_shown: int = field(default=0, init=False)
    wrong_answers: int = field(default=0, init=False)
    revealed: bool = field(default=False, init=False)
    solved: str = field(default="", init=False)

    def check(self, answer) -> Outcome:
        """Judge an answer and show the verdict; never raises because of the answer.

        From the third wrong answer on it also shows the next hint.

        Args:
            answer: the learner's object; `...` where nothing has been tried.

        Returns:
            The `Outcome` that was shown.
        """
        outcome = self.judge(answer)
        show_text(f"**{HEADINGS[outcome.status]}** {outcome.message}")
        if outcome.correct:
            self.solved = self.solved or self.manner()
        elif outcome.status != NOT_ATTEMPTED:
            self.wrong_answers += 1
            if self.wrong_answers >= WRONG_BEFORE_A_HINT and self.hints_shown < len(self.hints):
                self.hint()
        return outcome

    def manner(self) -> str:
        """How far the learner has been helped so far, in words."""
        if self.revealed:
            return "solved after the solution was shown"
        return f"solved with {self.hints_shown} of {len(self.hints)} hints" if self.hints_shown else "solved alone"

    def progress(self) -> str:
        """How far the learner has come, in words."""
        if self.solved:
            return self.solved
        return f"not solved yet ({self.wrong_answers} wrong)" if self.wrong_answers else "not attempted yet"

    def hint(self):
        """Show the next hint; after the last one, the last one again."""
        number = min(self.hints_shown, len(self.hints) - 1)
        self.hints_shown = number + 1
        show_text(f"**Hint {number + 1} of {len(self.hints)}.** {self.hints[number]}")

    def solution(self):
        """Show a right answer, unless the environment variable COURSE_LOCK_SOLUTIONS is set to 1."""
        if os.environ.get(LOCK) == "1":
            show_text("**The solutions are locked here.** Ask your teacher, or take another hint.")
            return
        self.revealed = True
        show_text(f"**One solution:**\n\n```python\n{self.solution_text}\n```")

    def reference(self):
        """The object that the solution's text defines; it may use what course_utils/minimal.py holds and imports."""
        namespace = dict(vars(minimal))
        exec(self.solution_text, namespace)
        return namespace[self.name]

    def right_or_reference(self, answer):
        """The answer where it is right, else the reference answer, saying so: for the cells that go on with it."""
        if self.judge(answer).correct:
            return answer
        show_text(f"*Until your `{self.name}` is right, the cells below use the reference answer.*")
        return self.reference()

    def judge(self, answer) -> Outcome:
        """The verdict, not shown."""
        raise NotImplementedError


def correct(exercise: Exercise) -> Outcome:
    """The verdict on a right answer."""
    return Outcome(CORRECT, exercise.praise)


def not_attempted(exercise: Exercise) -> Outcome:
    """The verdict where the dots still stand."""
    return Outcome(NOT_ATTEMPTED, f"Put your `{exercise.name}` in place of the dots, and run the cell again.")


@contextmanager
def global_state_kept():
    """Inside, all is as a fresh notebook has it; afterwards, as before, whatever the learner's code has set or drawn."""
    dtype, of_numpy, of_python = torch.get_default_dtype(), np.random.get_state(), random.getstate()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"), torch.random.fork_rng(devices=()), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(dtype)
        np.random.set_state(of_numpy)
        random.setstate(of_python)


@dataclass
class NumberExercise(Exercise):
    """The answer is a whole number.

    Attributes:
        slips: wrong numbers that learners often give, and what went wrong.
    """

    slips: dict[int, str]

    def judge(self, answer) -> Outcome:
        if answer is ...:
            return not_attempted(self)
        wanted = self.reference()
        number = whole_number(answer)
        if number is None:
            return Outcome(INCORRECT, f"`{self.name}` is {in_words(answer)}, wanted a whole number.")
        if number == wanted:
            return correct(self)
        known = self.slips.get(number, f"That is too {'small' if number < wanted else 'large'}.")
        return Outcome(INCORRECT, f"`{self.name}` is {number_in_words(number)}. {known}")


def whole_number(answer) -> int | None:
    """The answer as an int, from any kind of real number; None if it is not a whole number."""
    number = plain_number(answer)
    if isinstance(number, float):
        return int(number) if number.is_integer() else None
    return number


@dataclass
class FunctionExercise(Exercise):
    """The answer is a function; it is compared with the reference on many arguments.

    Attributes:
        draw_arguments: makes the arguments of one call from a `torch.Generator` and the number of the trial.
        mistakes: wrong answers that the checker knows.
        trials: calls to compare.
    """

    draw_arguments: Callable[[torch.Generator, int], tuple]
    mistakes: tuple[Mistake, ...]
    trials: int = 8

    def judge(self, answer) -> Outcome:
        if answer is ...:
            return not_attempted(self)
        if not callable(answer) or issubclass(type(answer), torch.nn.Module):
            return Outcome(
                INCORRECT, f"`{self.name}` is {in_words(answer)}, wanted the function itself, without calling it."
            )
        generator = torch.Generator().manual_seed(0)
        for trial in range(self.trials):
            with global_state_kept():
                outcome = self.try_once(answer, self.draw_arguments(generator, trial))
            if outcome:
                return outcome
        return correct(self)

    def try_once(self, answer, arguments) -> Outcome | None:
        """Compare one call with the reference; None where they agree."""
        called = "Called with " + ", ".join(in_words(argument) for argument in arguments)
        wanted = self.reference()(*copied(arguments))  # before the learner's code can change any setting
        try:
            handed_in = copied(arguments)
            found = answer(*handed_in)
            if found is ...:
                return not_attempted(self)
            fault = difference(found, wanted)
            if fault:
                known = self.recognise(found, arguments) or depends_on_chance(answer, found, arguments, fault)
                return Outcome(INCORRECT, f"{known}{called}: {fault}.")
            unchanged = [is_unchanged(before, after) for before, after in zip(arguments, handed_in)]
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also exit(), and what cannot be compared
            return Outcome(RAISED, f"{called}: `{error_in_words(error)}`")
        if all(unchanged):
            return None
        changed = unchanged.index(False) + 1
        return Outcome(INCORRECT, f"The result is right, but your function changes its argument {changed}.")

    def recognise(self, found, arguments) -> str:
        """What is said of the first known mistake that gives the same, or nothing."""
        for mistake in self.mistakes:
            if not difference(found, mistake.answer(*copied(arguments))):
                return mistake.says + " "
        return ""


def depends_on_chance(answer, found, arguments, fault: str) -> str:
    """What is said of a function that has wrong values, and others when it is called again; else nothing."""
    if "values are not" in fault and difference(answer(*copied(arguments)), found):
        return "Called twice with the same arguments, it gives two different results. "
    return ""


@dataclass
class ProbedExercise(Exercise):
    """The answer is a function or a class that is tried out in ways of its own.

    Attributes:
        parameters: what it is called with, in this order; a class is called with their names, and without any.
        find_fault: takes the answer, and says in a sentence what is wrong with it; "" where nothing is, and `...` where
            nothing has been tried. What it raises counts as raised by the answer.
        wanted: "function" or "class".
        tried_with: on what it is tried out, for the message about an exception.
        mistakes: wrong answers that `find_fault` recognises.
    """

    parameters: str
    find_fault: Callable
    wanted: str = "function"
    tried_with: str = ""
    mistakes: tuple[Mistake, ...] = ()

    def judge(self, answer) -> Outcome:
        if answer is ...:
            return not_attempted(self)
        if self.wanted == "class" and type(answer) is FunctionType:
            return Outcome(INCORRECT, f"`{self.name}` is a function, wanted a class.")
        if not callable(answer) or (self.wanted == "class" and not issubclass(type(answer), type)):
            return Outcome(
                INCORRECT, f"`{self.name}` is {in_words(answer)}, wanted the {self.wanted} itself, without calling it."
            )
        try:
            with global_state_kept():
                fault = self.misfit(answer) or self.find_fault(answer)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return Outcome(RAISED, f"While it was tried out{self.tried_with}: `{error_in_words(error)}`")
        if fault is ...:
            return not_attempted(self)
        return Outcome(INCORRECT, fault) if fault else correct(self)

    def misfit(self, answer) -> str:
        """What is said of an answer that cannot be called with the exercise's arguments; "" where it can."""
        try:
            signature = inspect.signature(answer)
        except (TypeError, ValueError):  # what is built in has none
            return ""
        names = [parameter.split("=")[0] for parameter in self.parameters.split(", ")]
        try:
            if self.wanted == "class":
                signature.bind()
                signature.bind(**dict.fromkeys(names))
            else:
                signature.bind(*names)
        except TypeError:
            return f"`{self.name}` takes `({', '.join(signature.parameters)})`, wanted `({self.parameters})`."
        return ""


@dataclass
class ChoicesExercise(Exercise):
    """The answer gives one of several words to each letter.

    Attributes:
        options: the words to choose from.
        reasons: for each letter, why its word is the right one: shown once it is right.
    """

    options: tuple[str, ...]
    reasons: dict[str, str]

    def judge(self, answer) -> Outcome:
        if answer is ...:
            return not_attempted(self)
        letters = ", ".join(self.reasons)
        if not issubclass(type(answer), dict):
            return Outcome(
                INCORRECT, f"`{self.name}` is {in_words(answer)}, wanted a dict with a word for each letter: {letters}."
            )
        words = {tidy(letter): tidy(word) for letter, word in dict.items(answer)}
        if words and all(word is ... for word in words.values()):
            return not_attempted(self)
        if words.keys() != {tidy(letter) for letter in self.reasons}:
            return Outcome(
                INCORRECT, f"`{self.name}` must have a word for each letter: {letters}, and no other letter."
            )
        return self.count_right({letter: words[tidy(letter)] for letter in self.reasons})

    def count_right(self, words: dict) -> Outcome:
        """The verdict on a word for each letter."""
        for letter, word in words.items():
            if type(word) is not str or word not in map(tidy, self.options):
                options = ", ".join(f'"{option}"' for option in self.options)
                return Outcome(INCORRECT, f"Letter {letter} has {in_words(word)}, wanted one of {options}.")
        wanted = self.reference()
        right = [letter for letter in wanted if words[letter] == tidy(wanted[letter])]
        because = [f"{letter}: {self.reasons[letter]}" for letter in right]
        if len(right) == len(wanted):
            return Outcome(CORRECT, " ".join((self.praise, *because)))
        of_all = f"{len(right)} of {len(wanted)} are right."
        return Outcome(INCORRECT, " ".join((of_all, *because, "Look again at the others.")))


def tidy(word):
    """A text in small letters with single spaces, so that only its words count; anything else as it is."""
    return " ".join(word.lower().replace(",", ", ").split()) if type(word) is str else word


def error_in_words(error: BaseException) -> str:
    """An exception's kind and what it says, which a learner's own exception may be unable to."""
    kind = type(error).__name__
    try:
        return f"{kind}: {in_one_line(error)}"
    except Exception:
        return kind
