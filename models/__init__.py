"""Checkpoints live here; `models.recipes` is the code that trained the shipped ones."""
