"""An application that had Celery before us: its own queues, routes, results, serializer, clock and schedule.

A test copies it into a folder of its own, as `storefront.py`, and starts Celery's commands on it.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from celery import Celery
from kombu import Exchange, Queue

import pgvector_sync

ENVIRONMENT = os.environ.get("STOREFRONT_ENVIRONMENT", "production")

app = Celery("storefront", broker=os.environ["STOREFRONT_REDIS"], backend=os.environ["STOREFRONT_REDIS"])


def route(name, args, kwargs, options, task=None, **other):
    """Routes every task by its team, and knows no other task than the storefront's."""
    team, _ = name.removeprefix("storefront.").split(".")
    return {"exchange": "storefront", "routing_key": {"orders": "orders", "mail": "mail"}[team]}


app.conf.update(
    task_default_queue="orders",
    task_queues=[
        Queue(name, Exchange("storefront", type="direct"), routing_key=name) for name in ("orders", "mail")
    ],
    task_routes=(route,),
    task_create_missing_queues=False,
    task_serializer="pickle",
    accept_content=["pickle", "json"],
    task_track_started=True,
    task_time_limit=3,
    worker_prefetch_multiplier=4,
    timezone="Asia/Tokyo",
    enable_utc=False,
    broker_connection_retry_on_startup=True,
    broker_channel_error_retry=True,
    beat_schedule={"count-stock": {"task": "storefront.orders.count_stock", "schedule": 1.0}},
)
if "STOREFRONT_SETTINGS" in os.environ:
    app.conf.update(eval(os.environ["STOREFRONT_SETTINGS"]))

pgvector_sync.register(app, prefix=f"{ENVIRONMENT}.embed.")


@app.task(name="storefront.orders.total")
def total(prices: set[int]) -> int:
    return sum(prices)  # a set, which JSON doesn't have


@app.task(name="storefront.mail.send")
def send(to: str) -> str:
    return f"sent to {to}"


@app.task(name="storefront.orders.count_stock")
def count_stock() -> None:
    print("counted the stock", flush=True)


@app.task(name="storefront.orders.wait_for", time_limit=120)
def wait_for(file: str) -> None:
    while not Path(file).exists():
        threading.Event().wait(0.05)
