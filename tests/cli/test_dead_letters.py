"""`dead-letters list / requeue / discard`: input, output and error messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from pgvector_sync.cli.keys import parse_key
from pgvector_sync.client.keys import show_key
from pgvector_sync.errors import ConfigError
from pgvector_sync.model import KeyColumn
from pgvector_sync.observe.status import read_status
from support.beginnings import begins_with
from support.synced import DOCS, Synced

Typed = Callable[..., tuple[int, str, str]]
REFUSAL: dict[str, Any] = {"status": 400, "code": "content_filter", "marker": "poison"}
SECRET = "poison, says Erika Mustermann"


def two_dead_letters(synced: Synced) -> None:
    """The rows 2 and 3 are dead letters; 1 is embedded."""
    synced.run(DOCS)
    synced.pipeline()
    synced.endpoint.fail(**REFUSAL)
    synced.run(f"INSERT INTO docs VALUES (1, 'fine'), (2, '{SECRET}'), (3, '{SECRET}, too')")
    synced.settle()


beginning, synced = begins_with(two_dead_letters)


@pytest.fixture
def typed(typed: Typed, synced: Synced) -> Typed:
    """Runs `pgvector-sync dead-letters …` while the rows are still refused, and checks that no output quotes a text."""
    synced.endpoint.fail(**REFUSAL)

    def run(*arguments: str) -> tuple[int, str, str]:
        code, out, err = typed("dead-letters", *arguments)
        assert "Mustermann" not in out + err
        return code, out, err

    return run


def test_the_list_shows_class_message_attempts_and_age_but_never_the_text(typed: Typed) -> None:
    code, out, _ = typed("list", "--json")
    assert code == 0
    letters = json.loads(out)["dead_letters"]
    assert [letter["key"] for letter in letters] == [[2], [3]]
    letter = letters[0]
    assert 0 <= letter.pop("age_seconds") < 60
    assert datetime.fromisoformat(letter.pop("parked_at")).tzinfo
    assert letter == {
        "pipeline": "docs",
        "key": [2],
        "verdict": "dead",
        "error_class": "input_rejected",
        "message": "the provider rejected the input (400 content_filter)",
        "attempts": 1,
    }
    code, out, _ = typed("list", "docs", "--limit", "1")
    assert code == 0
    assert "input_rejected" in out
    assert "--limit lists more" in out


def test_a_requeued_letter_is_retried_with_all_its_attempts(typed: Typed, synced: Synced) -> None:
    synced.endpoint.heal()
    assert typed("requeue", "docs", "--key", "2") == (0, "requeued 1 dead letter of docs\n", "")
    synced.settle()
    assert [letter["key"] for letter in json.loads(typed("list", "--json")[1])["dead_letters"]] == [[3]]
    assert typed("requeue", "docs", "--all")[0] == 0
    synced.sync()
    assert typed("list") == (0, "no dead letters\n", "")
    assert typed("requeue", "docs", "--all") == (0, "docs has no dead letters\n", "")


def test_a_discarded_letter_is_listed_but_no_longer_counted_and_can_be_requeued(
    typed: Typed, synced: Synced
) -> None:
    assert typed("discard", "docs", "--all")[:2] == (0, "discarded 2 dead letters of docs\n")
    assert {letter["verdict"] for letter in json.loads(typed("list", "--json")[1])["dead_letters"]} == {
        "discarded"
    }
    assert [status.dead for status in read_status(synced.runtime.database)] == [0]
    assert typed("discard", "docs", "--all") == (0, "docs has no dead letters to discard\n", "")
    code, _, err = typed("discard", "docs", "--key", "2")
    assert code == 1
    assert "a discarded one can't be discarded again" in " ".join(err.split())
    synced.endpoint.heal()
    assert typed("requeue", "docs", "--key", "2", "--key", "3")[0] == 0
    synced.sync()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("requeue", "nothing", "--all"), 1, "there is no pipeline nothing → known pipelines: docs"),
        (("list", "nothing"), 1, "there is no pipeline nothing → known pipelines: docs"),
        (("requeue", "docs", "--key", "77"), 1, "no dead letter has this key"),
        (("requeue", "docs", "--key", "1"), 1, "no dead letter has this key"),
        (("requeue", "docs", "--key", "77", "--key", "78"), 1, "no dead letter has any of these keys"),
        (("requeue", "docs"), 2, "expected either --key KEY (repeatable) or --all"),
        (("discard", "docs", "--key", "2", "--all"), 2, "expected either --key KEY (repeatable) or --all"),
        (("requeue", "docs", "--key", "two"), 2, "expected a key of (id bigint), got two"),
        (("requeue", "docs", "--key", "[2"), 2, "expected a key of (id bigint), got [2"),
        (("requeue", "docs", "--key", "[2, 3]"), 2, "expected a key of (id bigint), got [2, 3]"),
    ],
)
@pytest.mark.quick_variants(4)
def test_invalid_requests_are_refused_and_change_nothing(
    typed: Typed, synced: Synced, arguments: tuple[str, ...], code: int, words: str
) -> None:
    ended, out, err = typed(*arguments)
    assert (ended, out) == (code, "")
    assert words in " ".join(err.split())
    assert synced.dead() == [([2], "input_rejected"), ([3], "input_rejected")]


def test_keys_without_a_dead_letter_are_reported(typed: Typed) -> None:
    code, out, err = typed("requeue", "docs", "--key", "2", "--key", "77", "--key", "2")
    assert (code, out) == (0, "requeued 1 dead letter of docs\n")
    assert err == "keys without a dead letter: 1 of 2\n"


@pytest.mark.parametrize(
    ("columns", "text", "key"),
    [
        ("bigint", "42", (42,)),
        ("bigint", "[42]", (42,)),
        ("text", "42", ("42",)),
        ("text", "007", ("007",)),
        ("text", "true", ("true",)),
        ("text", "null", ("null",)),
        ("text", "1e5", ("1e5",)),
        ("text", "two words", ("two words",)),
        ("text", '"[in brackets]"', ("[in brackets]",)),
        ("numeric", "1.50", ("1.5",)),
        ("date", "2026-11-23", ("2026-11-23",)),
        ("uuid", "0AE1B7C4-0000-4000-8000-00000000000F", ("0ae1b7c4-0000-4000-8000-00000000000f",)),
        ("text bigint", '["eu", 7]', ("eu", 7)),
        ("bigint", "true", None),
        ("bigint", "[true]", None),
        ("text", "[null]", None),
        ("text", "[in brackets]", None),
        ("text", '"open', None),
        ("text bigint", "eu", None),
        ("uuid", "0ae1b7c4", None),
    ],
)
@pytest.mark.quick_variants(6)
def test_a_key_is_typed_as_it_is_shown(columns: str, text: str, key: tuple[object, ...] | None) -> None:
    of = [KeyColumn(f"k{number}", kind) for number, kind in enumerate(columns.split())]
    if key is None:
        with pytest.raises(ConfigError):
            parse_key(text, of)
    else:
        assert parse_key(text, of) == key
        assert parse_key(show_key(parse_key(text, of)), of) == key


def test_a_key_that_looks_like_markup_is_shown_as_it_is(typed: Typed, synced: Synced) -> None:
    synced.run("CREATE TABLE names (name text PRIMARY KEY, body text)")
    synced.declare("names", source="names")
    synced.apply()
    synced.run("INSERT INTO names VALUES ('[bold]red', 'poison')")
    synced.settle()
    assert '["[bold]red"]' in typed("list", "names")[1]
    synced.endpoint.heal()
    assert typed("requeue", "names", "--key", '["[bold]red"]')[0] == 0
