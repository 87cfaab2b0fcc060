"""Checks of what comes in, and the words in which a wrong value is shown."""

import math
import numbers
import operator
import reprlib


def in_one_line(error) -> str:
    """An error's message, without line breaks or its full stop, and not too long."""
    return " ".join(str(error).split())[:300].rstrip(".")


def quoted(value) -> str:
    """What was found, for a sentence: on one line, and short however long or deep it is."""
    return " ".join(reprlib.repr(value).split())


def plain(value):
    """A single number or switch of NumPy's or PyTorch's as Python's own; anything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def is_number(value) -> bool:
    """True for a real number, NumPy's included; True and False are none."""
    return isinstance(plain(value), numbers.Real) and not isinstance(plain(value), bool)


def check_whole_number(name: str, value, smallest: int, largest: int) -> int:
    """Refuse what is not a whole number from `smallest` to `largest`; True and False are no numbers here.

    Returns:
        The number as an int, whichever library it came from.

    Raises:
        ValueError: with what was found and what was expected.
    """
    try:
        whole = operator.index(plain(value)) if is_number(value) else None
    except TypeError:
        whole = None
    if whole is None or not smallest <= whole <= largest:
        raise ValueError(f"{name} is {quoted(value)}, expected a whole number from {smallest} to {largest}.")
    return whole


def check_number(name: str, value, smallest: float, largest: float, note: str = "") -> float:
    """Refuse what is not a number from `smallest` to `largest`; `note` is what the sentence adds about the range.

    Returns:
        The number as a float, whichever library it came from.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if not is_number(value) or not smallest <= plain(value) <= largest:  # not so for NaN
        raise ValueError(f"{name} is {quoted(value)}, expected a number from {smallest} to {largest}{note}.")
    return float(value)


def check_switch(name: str, value) -> bool:
    """Refuse what is neither True nor False; NumPy's own are these, too.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if not isinstance(plain(value), bool):
        raise ValueError(f"{name} is {quoted(value)}, expected True or False.")
    return plain(value)


RANGES = {
    "a number above 0": lambda number: number > 0,
    "a number of at least 0": lambda number: number >= 0,
    "a share from 0 to 1": lambda number: 0 <= number <= 1,
    "a number from 0 up to, not including, 1": lambda number: 0 <= number < 1,
}


def check_finite_number(name: str, value, expected: str) -> float:
    """Refuse what is not a finite number in a range; `expected` is one of `RANGES`.

    Returns:
        The number as a float, whichever library it came from.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if is_number(value) and is_finite(plain(value)) and RANGES[expected](plain(value)):
        return float(value)
    raise ValueError(f"{name} is {quoted(value)}, expected {expected}.")


def is_finite(number) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int beyond all floats
        return False


def check_choice(name: str, value, choices: tuple[str, ...]) -> str:
    """Refuse what is not one of a few words.

    Raises:
        ValueError: with what was found and what was expected.
    """
    if isinstance(value, str) and value in choices:
        return value
    raise ValueError(f"{name} is {quoted(value)}, expected {' or '.join(map(repr, choices))}.")
