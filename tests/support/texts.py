"""Texts that are difficult for a tokenizer, identical on every version of Python."""

from __future__ import annotations

PLANES = 3
"""The first planes of Unicode, which contain nearly all characters, including emoji."""
LINE = 48
WORDS = (
    *("the", "quick", "brown", "fox", "don't", "3.14159", "foo_bar", "fooBarBaz", "https://example.com/a?b=c#d"),
    *("Überraschung", "naïve", "e\u0301", "\u00e9", "日本語", "हिन्दी", "العربية", "ﬁne", "\ufeffa", "a\u200bb"),
    *(
        "👩\u200d👩\u200d👧\u200d👦",
        "🇩🇪",
        "👍🏽",
        "\x00",
        "\x7f",
        "\r\n",
        "\t",
        "",
        "   ",
        "\u00a0",
        "\u2028",
        "\ufffd",
    ),
    *("<s>", "</s>", "<unk>", "<0x0A>", "▁", "▁▁the"),
)
LONG = ("a" * 200_000, "word " * 40_000, "日本語" * 20_000, WORDS[19] * 5_000, " " * 50_000, "\n" * 20_000)


def awkward_texts() -> list[str]:
    """Every character next to its neighbours, words in random order, and very long texts."""
    return [*_every_character(), *_sentences(3_000), *LONG]


def _every_character() -> list[str]:
    points = [point for point in range(1, PLANES << 16) if not 0xD800 <= point < 0xE000]
    lines = [points[start : start + LINE] for start in range(0, len(points), LINE)]
    return ["".join(map(chr, line)) for line in lines]


def _sentences(count: int) -> list[str]:
    sentences = []
    seed = 1
    for number in range(count):
        words = []
        for _ in range(1 + number % 60):
            seed = (seed * 1_103_515_245 + 12_345) % (1 << 31)
            words.append(WORDS[(seed >> 8) % len(WORDS)])
        sentences.append(" ".join(words))
    return sentences
