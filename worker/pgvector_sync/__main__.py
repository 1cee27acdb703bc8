"""Makes `python -m pgvector_sync` equivalent to `pgvector-sync`."""

from pgvector_sync.cli import main

try:
    main()
finally:
    # If Ctrl-C arrives while Python executes a string, which every dataclass does when it is defined, `python -m`
    # kills itself with SIGINT at its end, even if the command has handled it and exits with another code. Python
    # forgets that when it executes the next string (run_eval_code_obj in CPython's pythonrun.c).
    exec("")  # noqa: S102
