"""Text from outside as a terminal or a log may show it: what would act on either is shown escaped.

A title, a message of the database or the name of a table is somebody else's text. In a terminal an escape sequence
clears the screen, writes the clipboard or makes a link, in a log file a line break forges a line, and a change of
direction shows a name as another one.
"""

from __future__ import annotations

import re

# C0, DEL and C1; line and paragraph separators; what changes direction; what shows nothing; halves of surrogates.
_ACTING = (
    "\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f\u200b\u2060-\u2065\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
)
_ANY = re.compile(f"[{_ACTING}]")
_BUT_LINES = re.compile(f"(?!\n)[{_ACTING}]")
_NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str, *, lines: bool = False) -> str:
    """Escaped as in a Python string; `lines` keeps line breaks, for text that is shown as several lines."""
    return (_BUT_LINES if lines else _ANY).sub(_escaped, text)


def printable_json(text: str) -> str:
    """A JSON document with the same characters escaped in JSON's way, where they can only be inside of strings."""
    return _BUT_LINES.sub(_escaped_in_json, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] in _NAMES:
        return _NAMES[match[0]]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escaped_in_json(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
