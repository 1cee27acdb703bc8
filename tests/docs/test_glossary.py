"""The glossary defines every word of the project's vocabulary, in one line each."""

import re
from pathlib import Path

import pytest

GLOSSARY = (Path(__file__).parents[2] / "docs/glossary.md").read_text("utf-8")
DEFINED = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", GLOSSARY, re.MULTILINE)[1:])
VOCABULARY = """
source, key, fingerprint, pipeline, spec, target, edition, outbox, work, generation, drain, doorbell, relay, claim, lease,
ack, release, superseded, attempt, backoff, cool-down, probe, dead letter, requeue, lane, live, bulk, run, backfill,
watermark, reconcile, drift, missing, stale, orphaned, wrong model, incomplete, broken, stuck, lag, passage, chunk
"""


@pytest.mark.parametrize("word", re.split(r",\s+", VOCABULARY.strip()))
def test_every_word_is_defined(word):
    assert len(DEFINED[word]) > 20


def test_words_are_in_alphabetical_order():
    assert list(DEFINED) == sorted(DEFINED)
