from support.synced_fixtures import shared, synced

__all__ = ["shared", "synced"]
