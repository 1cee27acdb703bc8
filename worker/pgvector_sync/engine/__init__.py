"""What happens periodically, and in which order? One turn of the machine, and the jobs that it runs."""
