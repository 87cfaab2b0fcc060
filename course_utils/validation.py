"""Checks of what comes in, and the words in which a wrong value is shown."""

import reprlib


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
