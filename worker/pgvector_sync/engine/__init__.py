"""What happens periodically, and in which order? One turn of the engine, and the jobs that it runs."""
