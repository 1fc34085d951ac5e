"""The recipes that trained the emoji suite: data, training, export and evaluation. See README.md for the order."""
