"""Which share of the true nearest neighbours does an index return?"""

from pgvector_sync.index.recall.measure import Progress, measure
from pgvector_sync.index.recall.report import MeasuredIndex, RecallReport, RecallRequest, SettingResult

__all__ = ["MeasuredIndex", "Progress", "RecallReport", "RecallRequest", "SettingResult", "measure"]
