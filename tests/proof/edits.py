"""Named replacements in the text of production functions and statements: how the protocol is broken on purpose.

The text must be there, once, or the edit fails: a mutant can't become a no-op when the code around it changes.
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
    """In a named statement (`work.ack`) or a function (`store.work:Holding.lock`, below pgvector_sync)."""

    place: str
    old: str
    new: str

    @property
    def of_sql(self) -> bool:
        return ":" not in self.place

    def made_in(self, text: str) -> str:
        assert text.count(self.old) == 1, f"{self.place} has {text.count(self.old)} times: {self.old}"
        assert self.old != self.new
        return text.replace(self.old, self.new)


@contextmanager
def edited(edits: Sequence[Edit]) -> Iterator[set[str]]:
    """Makes the edits for as long as the block runs; the places that were come by are in the set."""
    reached: set[str] = set()
    with ExitStack() as undo:
        undo.callback(_edit_statements([edit for edit in edits if edit.of_sql], reached))
        for place in dict.fromkeys(edit.place for edit in edits if not edit.of_sql):
            undo.callback(_edit_function(place, [edit for edit in edits if edit.place == place], reached))
        yield reached


def _edit_statements(edits: Sequence[Edit], reached: set[str]) -> Callable[[], None]:
    changed: dict[str, str] = {}
    for edit in edits:
        changed[edit.place] = edit.made_in(changed.get(edit.place, _text(edit.place)))

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

    put(*map(edited, originals))
    return lambda: put(*originals)


def _text(place: str) -> str:
    """Of a statement or a part."""
    file, _, name = place.partition(".")
    return (loader.statements(file) | loader.parts(file))[name]


class _Noticed(dict[str, str]):
    """Statements by name, which note that an edited one was asked for."""

    def __init__(self, texts: dict[str, str], places: dict[str, str], reached: set[str]) -> None:
        super().__init__(texts)
        self.places, self.reached = places, reached

    def __getitem__(self, name: str) -> str:
        if name in self.places:
            self.reached.add(self.places[name])
        return super().__getitem__(name)


@functools.cache
def _found(place: str) -> tuple[Any, str, str]:
    """Owner, name and text of a function; read once, so that a long run doesn't mind when its file is edited."""
    module_name, _, path = place.partition(":")
    module = importlib.import_module(f"pgvector_sync.{module_name}")
    *owners, name = path.split(".")
    owner: Any = functools.reduce(getattr, owners, module)
    return owner, name, textwrap.dedent(inspect.getsource(vars(owner)[name]))


def find(edits: Sequence[Edit]) -> None:
    """Raises where a text to be replaced isn't there any more."""
    for edit in edits:
        if edit.of_sql:
            edit.made_in(_text(edit.place))
        else:
            edit.made_in(_found(edit.place)[2])


def _edit_function(place: str, edits: Sequence[Edit], reached: set[str]) -> Callable[[], None]:
    owner, name, text = _found(place)
    original = vars(owner)[name]
    for edit in edits:
        text = edit.made_in(text)
    made: dict[str, Any] = {}
    exec(
        compile("from __future__ import annotations\n" + text, f"<broken {place}>", "exec"),
        original.__globals__,
        made,
    )

    @functools.wraps(original)
    def noticed(*args: Any, **kwargs: Any) -> Any:
        reached.add(place)
        return made[name](*args, **kwargs)

    _exchange(owner, name, original, noticed)
    return lambda: _exchange(owner, name, noticed, original)


def _exchange(owner: Any, name: str, old: object, new: object) -> None:
    """In its owner, and in all modules that have imported it by its name."""
    setattr(owner, name, new)
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("pgvector_sync.") and vars(module).get(name) is old:
            setattr(module, name, new)
