"""A number with what it counts, as texts for people show it."""


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return such as `1 row` or `2,000 rows`. `many` is the plural, by default `one` with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
