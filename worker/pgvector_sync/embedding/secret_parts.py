"""Whether a short word of an endpoint shows a part of a secret that was sent to it."""

from __future__ import annotations

import re

_SHARED_CHARACTERS = 8
"""A word with this many consecutive characters of a secret shows it."""


def shows_part_of(word: str, secret: str) -> bool:
    """Whether a word shows a part of a secret, ignoring case and everything except letters and digits."""
    word, secret = (re.sub(r"[^a-z0-9]", "", each.lower()) for each in (word, secret))
    length = min(_SHARED_CHARACTERS, len(secret))
    return length > 0 and any(secret[i : i + length] in word for i in range(len(secret) - length + 1))
