"""Which share of the true nearest neighbours does an index return?"""

from pgvector_sync.index.recall.measure import OnProgress, measure
from pgvector_sync.index.recall.report import MeasuredIndex, RecallReport, RecallRequest, SettingResult

__all__ = ["MeasuredIndex", "OnProgress", "RecallReport", "RecallRequest", "SettingResult", "measure"]
