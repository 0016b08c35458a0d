"""The kinds of value that a setting can have. Each says in words what it allows, for errors and for the docs. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic.fields import FieldInfo

from engine import failpoint
from ha.calendar import check_zone, parse_daily, parse_weekly


@dataclass(frozen=True)
class Allowed:
    """What a value may be, in words that follow "it must be"."""

    text: str


def allowed(field: FieldInfo) -> str:
    """The words for what `field` allows; raises LookupError for a kind of value that nobody described."""
    for item in (*field.metadata, *_inside(field.annotation)):
        if isinstance(item, Allowed):
            return item.text
    if words := [word for word in _inside(field.annotation) if isinstance(word, str)]:
        return f"one of {', '.join(words)}"
    raise LookupError(f"no words for {field!r}")


def _inside(annotation: Any) -> tuple[Any, ...]:
    found: list[Any] = list(getattr(annotation, "__metadata__", ()))
    for argument in get_args(annotation):
        found += [argument] if isinstance(argument, str) else _inside(argument)
    return tuple(found)


def _must_be_true(value: bool) -> bool:
    if not value:
        raise ValueError
    return value


def _commas(value: object) -> object:
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def _endpoint(text: str) -> str:
    if "://" in text:
        raise ValueError(f"{text!r} has a scheme; write HOST:PORT, and set ETCD_CA where etcd speaks TLS")
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not bare or (":" in host and not host.startswith("[")):
        raise ValueError(f"{text!r} is not HOST:PORT")
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError(f"the port in {text!r} is not a number from 1 to 65535")
    return text


def _endpoints(items: tuple[str, ...]) -> tuple[str, ...]:
    if not items:
        raise ValueError("it names no endpoint")
    if doubled := sorted({item for item in items if items.count(item) > 1}):
        raise ValueError(f"{', '.join(doubled)} stands there more than once")
    return tuple(_endpoint(item) for item in items)


_DATABASE = re.compile(r"postgres(?:ql)?://\S*")


def _database_url(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if driver := re.match(r"postgres(?:ql)?(\+\w+)://", text):
        raise ValueError(f"leave out {driver[1]!r}, the driver is chosen here")
    if not _DATABASE.fullmatch(text):
        raise ValueError
    return value


def _url(schemes: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{schemes})://[^\s/?#]+\S*")


def _web_url(value: str) -> str:
    if not _url("https?").fullmatch(value):
        raise ValueError
    return value.rstrip("/")


def _secret_url(schemes: str) -> AfterValidator:
    pattern = _url(schemes)

    def check(value: SecretStr) -> SecretStr:
        if not pattern.fullmatch(value.get_secret_value()):
            raise ValueError
        return value

    return AfterValidator(check)


def _signing_key(value: SecretStr) -> SecretStr:
    if (size := len(value.get_secret_value().encode())) < 32:
        raise ValueError(f"it has {size} bytes; make one with: openssl rand -hex 32")
    return value


_ROTATION = re.compile(r"midnight|\d{1,2}:\d{2}|\d+ ?(?:KB|MB|GB)|\d+ (?:hour|day|week)s?", re.IGNORECASE)


def _rotation(value: str) -> str:
    if not _ROTATION.fullmatch(value):
        raise ValueError
    hour, colon, minute = value.partition(":")
    if colon and (int(hour) > 23 or int(minute) > 59):
        raise ValueError
    return value


def _read_by(parse: Callable[[str], object]) -> AfterValidator:
    def check(value: str) -> str:
        try:
            parse(value)
        except ValueError:
            raise ValueError from None  # what it says stands in the words already
        return value.strip().upper()

    return AfterValidator(check)


_FAILPOINT = re.compile(r"([a-z_.]+)=(?:kill|stop|raise|sleep:\d+(?:\.\d+)?)(?:@\d+)?")


def _failpoints(value: str) -> str:
    for item in filter(None, value.split(";")):
        match = _FAILPOINT.fullmatch(item.strip())
        if match is None:
            raise ValueError(f"{item!r} is not POINT=kill|stop|raise|sleep:SECONDS, with @N for the N-th passage")
        if match[1] not in failpoint.POINTS:
            raise ValueError(f"there is no point {match[1]!r}; there are {', '.join(failpoint.POINTS)}")
    return value


Lower = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
Upper = BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)
Flag = Annotated[bool, Allowed("true or false")]
OnlyTrue = Annotated[bool, AfterValidator(_must_be_true), Allowed("true")]
Port = Annotated[int, Field(ge=1, le=65535), Allowed("a port from 1 to 65535")]
Count = Annotated[int, Field(ge=1, le=10**9), Allowed("a whole number from 1")]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False), Allowed("seconds, above 0 and at most 86400")]
WholeSeconds = Annotated[int, Field(ge=2, le=3600), Allowed("whole seconds from 2 to 3600 (etcd grants no less)")]
Rate = Annotated[float, Field(ge=0, le=10**6, allow_inf_nan=False), Allowed("orders per second, 0 for no limit")]
ClientId = Annotated[int, Field(ge=1, le=2**31 - 1), Allowed("a whole number from 1 to 2147483647, never 0")]
Amount = Annotated[Decimal, Field(gt=0, allow_inf_nan=False), Allowed("a decimal number above 0")]
Text = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$"), Allowed("text on one line")]
Host = Annotated[
    str,
    Field(pattern=r"^(?:[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*\]?)$"),
    Allowed("a host name or an address"),
]
Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$"),
    Allowed("1 to 32 of A-Z a-z 0-9 _ -, beginning with a letter or digit"),
]
File = Annotated[Path, Allowed("a path")]
Secret = Annotated[SecretStr, Allowed("text")]
SigningKey = Annotated[SecretStr, AfterValidator(_signing_key), Allowed("at least 32 bytes")]
DatabaseUrl = Annotated[
    SecretStr, AfterValidator(_database_url), Allowed("a URL postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
]
WebUrl = Annotated[str, AfterValidator(_web_url), Allowed("a URL http://HOST:PORT or https://HOST:PORT")]
HookUrl = Annotated[SecretStr, _secret_url("https?"), Allowed("a URL http://… or https://…")]
MailUrl = Annotated[SecretStr, _secret_url("smtps?"), Allowed("a URL smtp://USER:PASSWORD@HOST:PORT or smtps://…")]
Mail = Annotated[str, Field(pattern=r"^[^\s@]+@[^\s@]+$"), Allowed("one mail address")]
Endpoints = Annotated[
    tuple[str, ...], BeforeValidator(_commas), AfterValidator(_endpoints), Allowed("HOST:PORT,HOST:PORT,…")
]
Words = Annotated[tuple[str, ...], BeforeValidator(_commas), Allowed("names separated by commas")]
Rotation = Annotated[
    str, AfterValidator(_rotation), Allowed('"midnight", HH:MM (UTC), a size as "100 MB", or a time as "1 day"')
]
Daily = Annotated[str, _read_by(parse_daily), Allowed("a time of day such as 23:45")]
Weekly = Annotated[str, _read_by(parse_weekly), Allowed("a weekday and a time such as SUN 14:00")]
Zone = Annotated[str, AfterValidator(check_zone), Allowed("a time zone such as America/New_York")]
Failpoints = Annotated[str, AfterValidator(_failpoints), Allowed("POINT=ACTION separated by semicolons")]
