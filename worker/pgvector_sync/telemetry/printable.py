"""Escapes control characters in text from outside, so that it is safe in a terminal or a log.

Titles, messages of the database and names of tables may contain any text. In a terminal, an escape sequence can
clear the screen, write the clipboard or make a link. In a log file, a line break forges a line. A change of the
writing direction makes one name look like another.
"""

from __future__ import annotations

import re

# C0, DEL and C1; line and paragraph separators; changes of direction; invisible characters; lone surrogates.
_CONTROLS = (
    "\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f\u200b\u2060-\u2065\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
)
_ALL = re.compile(f"[{_CONTROLS}]")
_ALL_EXCEPT_NEWLINE = re.compile(f"(?!\n)[{_CONTROLS}]")
_NAMES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str, *, lines: bool = False) -> str:
    """Escape control characters as in a Python string. With `lines`, line breaks are kept."""
    return (_ALL_EXCEPT_NEWLINE if lines else _ALL).sub(_escaped, text)


def printable_json(text: str) -> str:
    """Escape the same characters in JSON's form. In a JSON document they only occur inside strings."""
    return _ALL_EXCEPT_NEWLINE.sub(_escaped_in_json, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] in _NAMES:
        return _NAMES[match[0]]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _escaped_in_json(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
