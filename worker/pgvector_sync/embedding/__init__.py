"""How do texts become vectors? Every answer is checked, and every failure sorted into our error tree."""
