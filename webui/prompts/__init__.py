"""Instruments that work on the prompt: T5 and BART as plain functions on loaded models."""
