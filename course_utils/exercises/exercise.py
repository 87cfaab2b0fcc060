"""What an exercise is: it judges the object that it is handed, gives hints, and shows its solution."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

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
        with torch.device("cpu"):  # whatever the notebook has set as PyTorch's default
            for trial in range(self.trials):
                outcome = self.try_once(answer, self.draw_arguments(generator, trial))
                if outcome:
                    return outcome
        return correct(self)

    def try_once(self, answer, arguments) -> Outcome | None:
        """Compare one call with the reference; None where they agree."""
        called = "Called with " + ", ".join(in_words(argument) for argument in arguments)
        try:
            handed_in = copied(arguments)
            found = answer(*handed_in)
            if found is ...:
                return not_attempted(self)
            fault = difference(found, self.reference()(*copied(arguments)))
            if fault:
                return Outcome(INCORRECT, f"{self.recognise(found, arguments)}{called}: {fault}.")
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


@dataclass
class ProbedExercise(Exercise):
    """The answer is a function or a class that is tried out in ways of its own.

    Attributes:
        find_fault: takes the answer, and says in a sentence what is wrong with it; "" where nothing is, and `...` where
            nothing has been tried. What it raises counts as raised by the answer.
        wanted: "function" or "class".
    """

    find_fault: Callable
    wanted: str = "function"

    def judge(self, answer) -> Outcome:
        if answer is ...:
            return not_attempted(self)
        if issubclass(type(answer), type) != (self.wanted == "class") or not callable(answer):
            return Outcome(
                INCORRECT, f"`{self.name}` is {in_words(answer)}, wanted the {self.wanted} itself, without calling it."
            )
        try:
            with torch.device("cpu"), torch.random.fork_rng(devices=()):  # a new network draws its weights at random
                fault = self.find_fault(answer)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return Outcome(RAISED, f"While it was tried out: `{error_in_words(error)}`")
        if fault is ...:
            return not_attempted(self)
        return Outcome(INCORRECT, fault) if fault else correct(self)


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
        if answer is ... or (type(answer) is dict and all(word is ... for word in answer.values())):
            return not_attempted(self)
        if type(answer) is not dict or [*answer] != [*self.reasons]:
            return Outcome(
                INCORRECT, f"`{self.name}` is {in_words(answer)}, wanted a dict with a word for each letter."
            )
        for letter, word in answer.items():
            if type(word) is not str or word not in self.options:
                words = ", ".join(f'"{option}"' for option in self.options)
                return Outcome(INCORRECT, f"Letter {letter} has {in_words(word)}, wanted one of {words}.")
        wanted = self.reference()
        right = [letter for letter in wanted if answer[letter] == wanted[letter]]
        because = " ".join(f"{letter}: {self.reasons[letter]}" for letter in right)
        if len(right) == len(wanted):
            return Outcome(CORRECT, f"{self.praise} {because}")
        return Outcome(INCORRECT, f"{len(right)} of {len(wanted)} are right. {because} Look again at the others.")


def error_in_words(error: BaseException) -> str:
    """An exception's kind and what it says, which a learner's own exception may be unable to."""
    kind = type(error).__name__
    try:
        return f"{kind}: {in_one_line(error)}"
    except Exception:
        return kind
