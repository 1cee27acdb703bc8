"""How does it all run on one machine without a server? Embedded Postgres and Valkey, `up` and the demo."""
