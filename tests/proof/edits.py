"""Replacements in the text of production functions and statements, which break the protocol on purpose.

The text to replace must occur exactly once, or the edit fails. So a mutant can't become a no-op when the code changes.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from pgvector_sync.database import statements as loader


@dataclass(frozen=True)
class Edit:
    """A replacement in a named statement (`work.ack`) or a function (`store.work:Holding.lock`, below pgvector_sync)."""

    place: str
    old: str
    new: str

    @property
    def is_sql(self) -> bool:
        return ":" not in self.place

    def apply_to(self, text: str) -> str:
        count = text.count(self.old)
        assert count == 1, f"{self.place}: expected this text once, got {count}: {self.old}"
        assert self.old != self.new
        return text.replace(self.old, self.new)


@contextmanager
def edited(edits: Sequence[Edit]) -> Iterator[set[str]]:
    """Applies the edits while the block runs; the set collects the edited places that were executed."""
    reached: set[str] = set()
    with ExitStack() as undo:
        undo.callback(_edit_statements([edit for edit in edits if edit.is_sql], reached))
        for place in dict.fromkeys(edit.place for edit in edits if not edit.is_sql):
            undo.callback(_edit_function(place, [edit for edit in edits if edit.place == place], reached))
        yield reached


def _edit_statements(edits: Sequence[Edit], reached: set[str]) -> Callable[[], None]:
    changed: dict[str, str] = {}
    for edit in edits:
        changed[edit.place] = edit.apply_to(changed.get(edit.place, _text(edit.place)))

    def edited(original: Callable[[str], dict[str, str]]) -> Callable[[str], dict[str, str]]:
        def read(file: str) -> dict[str, str]:
            texts = original(file)
            ours = {name: changed[f"{file}.{name}"] for name in texts if f"{file}.{name}" in changed}
            return _Noticed({**texts, **ours}, {name: f"{file}.{name}" for name in ours}, reached)

        return read

    originals = loader.statements, loader.parts

    def put(statements: Callable[[str], dict[str, str]], parts: Callable[[str], dict[str, str]]) -> None:
        loader.statements, loader.parts = statements, parts  # type: ignore[assignment]
        loader.statement.cache_clear()
        loader.part.cache_clear()
        loader.forget_composed()

    put(*map(edited, originals))
    return lambda: put(*originals)


def _text(place: str) -> str:
    """The text of a statement or a part."""
    file, _, name = place.partition(".")
    return (loader.statements(file) | loader.parts(file))[name]


class _Noticed(dict[str, str]):
    """Statements by name, which record the access to an edited one."""

    def __init__(self, texts: dict[str, str], places: dict[str, str], reached: set[str]) -> None:
        super().__init__(texts)
        self.places, self.reached = places, reached

    def __getitem__(self, name: str) -> str:
        if name in self.places:
            self.reached.add(self.places[name])
        return super().__getitem__(name)


@functools.cache
def _function(place: str) -> tuple[Any, str, str]:
    """Owner, name and text of a function. Read only once, so that editing the file doesn't affect a long run."""
    module_name, _, path = place.partition(":")
    module = importlib.import_module(f"pgvector_sync.{module_name}")
    *owners, name = path.split(".")
    owner: Any = functools.reduce(getattr, owners, module)
    return owner, name, textwrap.dedent(inspect.getsource(vars(owner)[name]))


def verify(edits: Sequence[Edit]) -> None:
    """Raises AssertionError if a text to be replaced doesn't exist any more."""
    for edit in edits:
        if edit.is_sql:
            edit.apply_to(_text(edit.place))
        else:
            edit.apply_to(_function(edit.place)[2])


def _edit_function(place: str, edits: Sequence[Edit], reached: set[str]) -> Callable[[], None]:
    owner, name, text = _function(place)
    original = vars(owner)[name]
    for edit in edits:
        text = edit.apply_to(text)
    namespace: dict[str, Any] = {}
    exec(
        compile("from __future__ import annotations\n" + text, f"<broken {place}>", "exec"),
        original.__globals__,
        namespace,
    )

    @functools.wraps(original)
    def noticed(*args: Any, **kwargs: Any) -> Any:
        reached.add(place)
        return namespace[name](*args, **kwargs)

    _exchange(owner, name, original, noticed)
    return lambda: _exchange(owner, name, noticed, original)


def _exchange(owner: Any, name: str, old: object, new: object) -> None:
    """Replaces a function in its owner, and in all modules that have imported it by name."""
    setattr(owner, name, new)
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("pgvector_sync.") and vars(module).get(name) is old:
            setattr(module, name, new)
