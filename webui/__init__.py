"""Diffuscope: a browser page that runs Stable Diffusion and lets you see inside it."""

__version__ = "0.1.0"
