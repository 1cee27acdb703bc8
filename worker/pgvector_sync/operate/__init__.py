"""What people do with pgvector-sync: apply, status, search, doctor, sync without Celery, up and demo."""
