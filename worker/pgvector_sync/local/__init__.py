"""How does everything run on one machine without servers? Embedded Postgres and Valkey, `up` and the demo."""
