"""Turns texts into vectors. Every answer is checked, and every failure is mapped to a class of our error tree."""
