"""Turns texts into vectors. Every answer is checked, and every failure is mapped to a class of our error tree.

A call passes through the files at this level, one of the `dialects`, and `network` or `local_models`. `budget` and
`learning` limit it, and `families` knows what models expect.
"""
