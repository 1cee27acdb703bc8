"""The texts that are sent: harmless, in plain English, the same in every test."""

from __future__ import annotations

import random
from functools import cache

FIRST = "The bakery on the corner opens at seven and sells bread, rolls and cake."
SECOND = "A telescope gathers light from distant stars and galaxies."

WORDS_PER_TOPIC = 300
_TOPICS = (
    "river water bridge boat fish stone bank flood stream valley lake rain shore wave depth reed",
    "market price trade money sale shop cost profit owner bill order account tax debt value goods",
    "music song piano drum voice choir note dance stage band record sound rhythm score opera tune",
    "garden plant seed root leaf tree fruit soil flower grass spring harvest bush fence spade bee",
    "school teacher lesson book class pupil paper test study history language page pen word list desk",
)


def sentences(count: int, *, first: int = 1) -> list[str]:
    """Return short texts, all different, and different for each range of numbers."""
    return [f"Sentence number {number}." for number in range(first, first + count)]


@cache
def long_text(words: int) -> str:
    """Return a text of common words, most of which are one token. A longer text begins with the shorter ones.

    The topic changes every few hundred words, so that the vector changes noticeably if more of the text is read.
    """
    choose = random.Random(1)  # noqa: S311
    topics = [topic.split() for topic in _TOPICS]
    chosen = [choose.choice(topics[n // WORDS_PER_TOPIC % len(topics)]) for n in range(words)]
    return " ".join(chosen)
