"""What must not be read in a log, a table or an error: passwords, tokens, and control characters that forge a line."""

from __future__ import annotations

import re

_MASK = "***"
_IN_URL = re.compile(r"(?P<head>[A-Za-z][\w+.-]*://[^\s:/@\"'<>]*:)[^\s\"'<>]*@")
_SECRET_NAME = r"[\w-]*(?:password|passwd|secret|token|api_?key)[\w-]*"  # a pattern, not a secret
_ASSIGNED = re.compile(rf"(?P<head>\b{_SECRET_NAME}=)[^\s&;,\"']+", re.IGNORECASE)
_IN_JSON = re.compile(rf"(?P<head>[\"']{_SECRET_NAME}[\"']\s*:\s*[\"'])[^\"']*", re.IGNORECASE)
_BEARER = re.compile(r"(?P<head>\bbearer\s+)[\w.~+/=-]{6,}", re.IGNORECASE)
_JWT = re.compile(r"(?P<head>)\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def redact(text: str) -> str:
    """`text` with passwords in URLs, values of NAME=secret and "name": "secret", bearer tokens and JWTs masked.

    Where a password cannot be told from what follows it, more is masked rather than less.
    """
    text = _IN_URL.sub(rf"\g<head>{_MASK}@", text)
    for pattern in (_ASSIGNED, _IN_JSON, _BEARER, _JWT):
        text = pattern.sub(rf"\g<head>{_MASK}", text)
    return text


def is_secret_name(name: str) -> bool:
    """Whether something with this name is a secret, whatever it looks like."""
    return re.fullmatch(_SECRET_NAME, name, re.IGNORECASE) is not None


def escape_controls(text: str) -> str:
    """`text` on one line: control characters, line separators and those that turn the reading direction are escaped."""
    return _CONTROL.sub(lambda m: _SHORT.get(m[0]) or f"\\x{ord(m[0]):02x}", text)


def one_line(text: str, limit: int = 80) -> str:
    """`text` escaped and cut to `limit` characters, to be quoted in a sentence."""
    text = escape_controls(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
