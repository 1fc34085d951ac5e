"""The public link of `--share`."""
