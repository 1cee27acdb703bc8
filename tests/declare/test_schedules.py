"""The section `reconcile` of the file."""

from datetime import time, timedelta

import pytest

from pgvector_sync.model import Schedule
from support.declared import pipeline


def test_a_schedule_is_read_with_defaults_for_missing_keys(load):
    text = (
        pipeline() + '[pipelines.articles.reconcile]\nevery = "6h"\ndeep_every = "off"\nwindow = "22:00-05:30"\n'
    )
    assert load(text).pipelines["articles"].options.reconcile == Schedule(
        every=timedelta(hours=6), deep_every=None, window=(time(22), time(5, 30))
    )
    assert load(pipeline()).pipelines["articles"].options.reconcile == Schedule()


def test_a_schedule_may_be_cron(load):
    text = pipeline() + '[pipelines.articles.reconcile]\ncron = "0 3 * * SUN"\n'
    assert load(text).pipelines["articles"].options.reconcile.cron == "0 3 * * SUN"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('every = "6"', 'expected a duration such as "30m"'),
        ('every = "0h"', 'expected a duration such as "30m"'),
        ("every = 6", 'expected a duration such as "30m"'),
        ('cron = "every day"', "expected five cron fields"),
        ('cron = "61 * * * *"', "expected five cron fields"),
        ('window = "22-25"', "expected two times of the day in UTC"),
        ('window = "05:00-05:00"', "expected two times of the day in UTC"),
        ("database_share = 0", "greater than 0"),
        ("orphan_share = 2", "expected at most 1"),
        ('evry = "6h"', "did you mean every?"),
        ('cron = "0 3 * * *"\nevery = "1d"', "expected every or cron, got both"),
    ],
)
def test_an_invalid_schedule_is_refused(refusal, line, words):
    assert words in str(refusal(pipeline() + f"[pipelines.articles.reconcile]\n{line}\n"))
