"""Measures how many tokens per second `minilm` reads on one core, by the length and number of texts per run.

    python benchmarks/local_speed.py

The time is that of the processor, so other programs on the machine disturb it little. The figures are why a run
holds at most RUN_TOKENS tokens: runs of one short text are half as fast, and large ones aren't faster.
"""

from __future__ import annotations

import time

from pgvector_sync.embedding.local_models import onnx_model
from pgvector_sync.embedding.local_models.minilm import open_minilm

LENGTHS = (8, 32, 128, 256)
RUN_TOKENS = (8, 64, 256, 512, 1_024, 4_096)
TOKENS = 8_192


def main() -> None:
    model = open_minilm()
    print("tokens per text  " + "".join(f"{tokens:>8,}" for tokens in RUN_TOKENS) + "   tokens per run")
    for length in LENGTHS:
        texts = [" ".join(["word"] * (length - 2))] * (TOKENS // length)
        rates = []
        for tokens in RUN_TOKENS:
            onnx_model.RUN_TOKENS = tokens
            started = time.process_time()
            read = model.encode(texts).tokens
            rates.append(read / (time.process_time() - started))
        print(f"{length:>15,}  " + "".join(f"{rate:>8,.0f}" for rate in rates) + "   tokens/s")


if __name__ == "__main__":
    main()
