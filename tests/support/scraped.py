"""Scrapes the metrics of a database, and finds samples in them."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from pgvector_sync.database import Database
from pgvector_sync.observe.metrics.catalogue import PREFIX
from pgvector_sync.observe.metrics.collector import exposition


@dataclass(frozen=True)
class Scrape:
    """The samples of one scrape, by name and labels."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float | None:
        """The sample with exactly these labels; None if there is none."""
        return self.samples.get((PREFIX + name, frozenset(labels.items())))

    def all(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        """The samples of one metric, by their labels."""
        return {labels: value for (found, labels), value in self.samples.items() if found == PREFIX + name}


def scrape(database: Database) -> Scrape:
    return parse(exposition(database).decode())


def parse(text: str) -> Scrape:
    return Scrape(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )
