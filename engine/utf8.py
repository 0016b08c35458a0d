"""Text that UTF-8 cannot say: half of a pair of surrogates, which JSON's escapes can write alone. Pure.

Neither the log nor a file can keep it, so nothing that carries it is taken in.
"""

from __future__ import annotations

from engine.errors import FieldError

_LONGEST_NAME = 64


def unwritable(value: object) -> list[FieldError]:
    """An error for each text inside this JSON value, names of fields too, that cannot be written as UTF-8, in their order."""
    found: list[FieldError] = []
    waiting: list[tuple[str, object]] = [("", value)]  # no recursion: a body may be nested as deep as it likes
    while waiting:
        place, one = waiting.pop()
        if isinstance(one, str) and not _can_be_written(one):
            found.append(_wrong(place or "body"))
        elif isinstance(one, list):
            waiting += [(f"{place}[{number}]", each) for number, each in reversed(list(enumerate(one)))]
        elif isinstance(one, dict):
            under = f"{place}." if place else ""
            found += [_wrong(under + name) for name in one if not _can_be_written(name)]
            waiting += [(under + name, each) for name, each in reversed(one.items())]
    return found


def _can_be_written(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _wrong(place: str) -> FieldError:
    name = place[:_LONGEST_NAME].encode(errors="backslashreplace").decode()
    return FieldError(name, "half of a character (a lone surrogate), which cannot be written as UTF-8")
