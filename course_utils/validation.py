"""Checks of what comes in, and the words in which a wrong value is shown."""

import math
import numbers
import operator
import reprlib

import numpy as np


def in_one_line(error) -> str:
    """An error's message, without line breaks or its full stop, and not too long."""
    return " ".join(str(error).split())[:300].rstrip(".")


def quoted(value) -> str:
    """What was found, for a sentence: on one line, and short however long or deep it is."""
    return " ".join(reprlib.repr(value).split())


def check_whole_number(name: str, value, smallest: int, largest: int):
    """Refuse what is not an int from `smallest` to `largest`; True and False are no numbers here.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
        raise ValueError(f"{name} is {quoted(value)}, expected a whole number from {smallest} to {largest}.")


def is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


RANGES = {
    "a number above 0": lambda number: number > 0,
    "a number of at least 0": lambda number: number >= 0,
    "a share from 0 to 1": lambda number: 0 <= number <= 1,
    "a number from 0 up to, not including, 1": lambda number: 0 <= number < 1,
}


def plain_int(name: str, value, smallest: int, largest: int) -> int:
    """A whole number, NumPy's too, as an int; True and False are no numbers here.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and smallest <= value <= largest:
        return operator.index(value)
    raise ValueError(f"{name} is {quoted(value)}, expected a whole number from {smallest} to {largest}.")


def plain_float(name: str, value, expected: str) -> float:
    """A finite number, NumPy's too, as a float.

    Args:
        name: what the number is, for the sentence.
        value: the number.
        expected: one of `RANGES`.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and is_finite(value) and RANGES[expected](value):
        return float(value)
    raise ValueError(f"{name} is {quoted(value)}, expected {expected}.")


def is_finite(number) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int beyond all floats
        return False


def plain_bool(name: str, value) -> bool:
    """True or False, NumPy's too, as a bool.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise ValueError(f"{name} is {quoted(value)}, expected True or False.")


def plain_choice(name: str, value, choices: tuple[str, ...]) -> str:
    """One of a few words.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if isinstance(value, str) and value in choices:
        return value
    raise ValueError(f"{name} is {quoted(value)}, expected {' or '.join(map(repr, choices))}.")
