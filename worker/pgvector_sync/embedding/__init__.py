"""Providers: texts in, vectors out, every answer checked, every failure sorted into our error tree."""
