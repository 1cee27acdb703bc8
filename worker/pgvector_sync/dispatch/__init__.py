"""How do Celery, the relay and the doorbells bring work to the workers? Only this folder imports Celery."""
