"""Recognizes names and values of secrets, which belong in the environment and not in the file or the database."""

from __future__ import annotations

import re

_NAME = re.compile(r"(^|[_-])(api|auth)?(key|token|secret|password|passwd|credentials?)$|^authorization$|^cookie$")
_KNOWN = re.compile(
    r"^(bearer|basic|token|api-key) \S+$"
    r"|^(sk|pa|al|rk|pk|hf|gsk|ghp|gho|ghs|jina|xox[a-z])[-_]\S{8,}"
    r"|^(aiza|akia|eyj|github_pat_|glpat-)\S{8,}",
    re.IGNORECASE,
)
"""How the keys of well-known services begin, and the schemes of the header Authorization."""
_RUN = re.compile(r"[a-z0-9+=_-]{20,}", re.ASCII | re.IGNORECASE)
_WORDS = re.compile(r"(?:[a-z]+\d{0,3}|\d{1,6})(?:[+=_-](?:[a-z]+\d{0,3}|\d{1,6}))*", re.ASCII | re.IGNORECASE)
"""Words and short numbers, such as `my-application-v2`."""
_LETTER_AND_DIGIT = re.compile(r"[a-z].*\d|\d.*[a-z]", re.ASCII | re.IGNORECASE)


_IDENTIFIER = re.compile(r"(^|[^a-z])(id|org|organi[sz]ation|project|tenant|workspace|account|folder|user)$")
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def is_name_of_secret(name: str) -> bool:
    """Whether a header of this name carries a secret: `x-api-key`, `authorization`, `private-token`."""
    return _NAME.search(name.lower()) is not None


def looks_like_secret(value: str, *, name: str = "") -> bool:
    """Whether a value is probably a key: it begins like one, or contains a long mix of letters and digits.

    Identifiers are such a mix as well, so after a name such as `OpenAI-Project` only the beginning counts.
    """
    if _KNOWN.search(value):
        return True
    if _IDENTIFIER.search(_CAPITAL.sub("-", name).lower()):
        return False
    return any(_LETTER_AND_DIGIT.search(run) and not _WORDS.fullmatch(run) for run in _RUN.findall(value))
