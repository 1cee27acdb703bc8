"""In the situation of each section of the runbook, its alert fires on what `/metrics` exposes then."""

from __future__ import annotations

import pytest

from deploy.exposed import series
from deploy.rules import firing, needs_promtool
from deploy.scene import Scene
from deploy.scenes import SCENES
from pgvector_sync.observe.metrics.collector import exposition
from pgvector_sync.runtime.bootstrap import open_database
from pgvector_sync.settings import Settings

NOT_ACTIVE = "PgvectorSyncPipelineNotActive"
FAST, SLOW = "PgvectorSyncFreshnessBurnsFast critical", "PgvectorSyncFreshnessBurnsSlowly warning"
OLD = "PgvectorSyncOldestChange warning"
FIRES = {
    "Before you start": set(),
    "PgvectorSyncFreshnessBurnsFast": {FAST, SLOW, OLD},
    "PgvectorSyncOldestChange": {OLD},
    "The provider rejects the key": {f"{NOT_ACTIVE} critical misconfigured"},
    "The provider is down": {f"{NOT_ACTIVE} warning cooling_down"},
    "The tables have changed": {f"{NOT_ACTIVE} critical misconfigured"},
    "It is paused": {f"{NOT_ACTIVE} info paused"},
    "A removal was interrupted": {f"{NOT_ACTIVE} warning removing", "PgvectorSyncNoWorker warning"},
    "PgvectorSyncDeadLettersRising": {"PgvectorSyncDeadLettersRising warning"},
    "The relay is silent": {"PgvectorSyncNoTick critical relay"},
    "Beat is silent": {"PgvectorSyncNoTick warning beat"},
    "PgvectorSyncNoWorker": {"PgvectorSyncNoWorker critical", FAST, SLOW, OLD},
    "PgvectorSyncProviderErrors": {"PgvectorSyncProviderErrors warning", f"{NOT_ACTIVE} warning cooling_down"},
    "PgvectorSyncLeasesExpiring": {"PgvectorSyncLeasesExpiring warning"},
    "PgvectorSyncDriftFound": {"PgvectorSyncDriftFound warning"},
    "PgvectorSyncDayTokensSpent": {"PgvectorSyncDayTokensSpent info"},
    "PgvectorSyncIndexInvalid": {"PgvectorSyncIndexInvalid warning"},
    "PgvectorSyncRecallBelowTarget": {"PgvectorSyncRecallBelowTarget warning"},
    "PgvectorSyncDatabaseUnreachable": {"PgvectorSyncDatabaseUnreachable critical"},
}


def scraped(scene: Scene) -> bytes:
    with open_database(Settings(DATABASE_URL=scene.env["DATABASE_URL"], _env_file=None)) as database:
        return exposition(database)


@pytest.mark.slow
@needs_promtool
@pytest.mark.parametrize("heading", FIRES)
def test_the_alert_of_a_section_fires_in_its_situation_and_no_other(heading, scene, tmp_path):
    before = scraped(scene)
    with SCENES[heading](scene):
        during = scraped(scene)
        fired = firing(series(before, during, minutes=150), 150 if "Index" in heading else 26, tmp_path)
        assert fired == FIRES[heading]
