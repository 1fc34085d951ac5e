"""Finds, isolates and loads extensions, and is all that they see of the program."""
