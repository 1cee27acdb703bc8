"""All events, one file per subject.

Dashboards and alerts depend on an event's name and on the names of its fields: add to them, never rename one.
Several events share a name if the same thing is detected in different ways. docs/events.md lists them all.
"""
