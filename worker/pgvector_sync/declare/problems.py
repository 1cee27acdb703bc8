"""Problems in a file: the key, what was expected and what was found."""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import ValidationError

from pgvector_sync.declare.sections import PipelineSection, Section

_S = TypeVar("_S", bound=Section)
_WORDS = {
    "Input should be greater than or equal to": "expected at least",
    "Input should be less than or equal to": "expected at most",
    "Input should be a valid dictionary": "expected a table",
    "Input should be": "expected",
    "String should have": "expected",
}
"""The words of pydantic's messages, and ours."""
_SECRET = re.compile(r"api_?key|secret|password|authorization|(^|_)token$", re.IGNORECASE)


class Problems(list[tuple[str, str]]):
    """(key, message) of each problem so far, in the file's order."""

    def checked(self, section: type[_S], values: dict[str, Any], key: str = "") -> _S | None:
        """Return the section's validated values, or None after adding its problems."""
        try:
            return section.model_validate(values)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                path = [key, *map(str, detail["loc"])]
                message = _message(section, path[-1], detail["type"], detail["msg"], detail["input"])
                self.append((".".join(filter(None, path)), message))
            return None


def _message(section: type[Section], name: str, kind: str, message: str, value: object) -> str:
    known = list(section.model_fields)
    if kind == "missing":
        return "expected a value, but the key is missing"
    typo = get_close_matches(name, known, n=1, cutoff=0.9)  # max_input_token, but not api_key
    if not typo and _SECRET.search(name):
        return "secrets belong in the environment: name the variable in api_key_env"
    if kind == "extra_forbidden":
        close = get_close_matches(name, known, n=1, cutoff=0.5)
        return f"unknown key; did you mean {close[0]}?" if close else f"unknown key; expected {', '.join(known)}"
    expected = message.removeprefix("Value error, ")
    for pydantic, ours in _WORDS.items():
        expected = expected.replace(pydantic, ours)
    if section is not PipelineSection and not isinstance(value, int):
        return expected  # the value may be a key, or a URL that contains one
    shown = json.dumps(value, default=str, ensure_ascii=False)
    return f"{expected}; got {shown if len(shown) <= 60 else shown[:57] + '...'}"
