"""Which columns of a table are text to embed, and which probably aren't, judged by type, name and statistics."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from pgvector_sync.store.proposals import ColumnFacts

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_]+")
_UNSUITABLE: Mapping[str, str] = {
    "an e-mail address": "email mail emails",
    "an address of a page or file": "url urls uri link href website image avatar photo file filename path",
    "a secret": "password passwd pwd passphrase secret token apikey salt otp pin credential credentials",
    "a hash or checksum": "hash digest checksum sha sha1 sha256 md5 etag signature fingerprint",
    "JSON": "json jsonb payload",
    "personal data": "phone fax mobile telephone ssn iban bic passport address street zip postcode birthday",
    "an identifier": "id uuid guid sku ean isbn code slug ref reference key by",
    "a technical value": "ip agent locale lang language currency country timezone tz mime mimetype version",
    "a state or kind": "status state kind type role level priority",
}
"""Reason → words that suggest it, if they are the last word of a column's name."""
_ANYWHERE = frozenset(["an e-mail address", "a secret", "a hash or checksum"])
"""Reasons whose words count anywhere in a name: `email_normalized`, `password_reset_note`."""
_FIRST = frozenset(["title", "name", "subject", "headline", "heading", "label", "summary"])
"""Words of short texts, which are embedded before the longer ones."""
_FEW_VALUES, _SHORT, _MANY_ROWS = 25, 24, 1_000
_TIMES = frozenset(["deleted", "removed", "archived", "trashed"])
_GONE = frozenset(["deleted", "removed", "archived", "trashed", "hidden", "draft", "spam"])
_SHOWN = frozenset(["published", "active", "enabled", "visible", "public", "approved"])


@dataclass(frozen=True, slots=True)
class Judgement:
    """The columns to embed, in their order, and the reason for each text or JSON column that is left out."""

    chosen: tuple[ColumnFacts, ...]
    left_out: tuple[tuple[str, str], ...]


def judge(columns: Iterable[ColumnFacts], *, key: Sequence[str], rows: int) -> Judgement:
    """Choose the text columns. `key` names the key columns, and `rows` is the estimated number of rows."""
    chosen, left_out = [], []
    for column in columns:
        reason = _reason(column, key, rows)
        if reason is None:
            chosen.append(column)
        elif reason:
            left_out.append((column.name, reason))
    chosen.sort(key=lambda column: not _FIRST & set(words_of(column.name)))  # stable
    return Judgement(tuple(chosen), tuple(left_out))


def _reason(column: ColumnFacts, key: Sequence[str], rows: int) -> str | None:
    """Return why a column isn't embedded; None if it is, and nothing if its type has no text at all."""
    if not column.is_text:
        return f"type {column.type}" if column.type in ("json", "jsonb", "xml", "hstore") else ""
    if column.name in key:
        return "part of the key"
    if column.generated:
        return "generated from other columns"
    words = words_of(column.name)
    for reason, suspects in _UNSUITABLE.items():
        known = set(suspects.split())
        if words and (words[-1] in known or (reason in _ANYWHERE and known & set(words))):
            return f"looks like {reason}"
    distinct = column.n_distinct or 0
    if rows >= _MANY_ROWS and 0 < distinct <= _FEW_VALUES and (column.avg_width or 0) <= _SHORT:
        return f"has only {distinct:.0f} different values"
    return None


def words_of(name: str) -> list[str]:
    """Split a column's name into lower-case words: `avatar_url`, `avatarURL` and `AvatarUrl` have the same two."""
    return [word.lower() for word in _WORDS.findall(name)]


def condition(columns: Iterable[ColumnFacts]) -> str | None:
    """Propose a `where` that leaves out rows that are deleted or not published; None without such columns."""
    parts = []
    for column in columns:
        words, name = words_of(column.name), quoted(column.name)
        flag = words[1:] if words[:1] == ["is"] else words
        if len(words) == 2 and words[0] in _TIMES and words[1] in ("at", "on", "date"):
            parts.append(f"{name} IS NULL")
        elif column.type == "boolean" and len(flag) == 1 and flag[0] in _GONE:
            parts.append(f"NOT {name}")
        elif column.type == "boolean" and len(flag) == 1 and flag[0] in _SHOWN:
            parts.append(name)
    return " AND ".join(parts) or None


def quoted(name: str) -> str:
    """Quote a name for SQL, unless it has only lower-case letters, digits and underscores.

    For the file's `source`, and for columns of this module's lists, none of which is a reserved word.
    """
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else sql.Identifier(name).as_string()
