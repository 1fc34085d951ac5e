"""CLIP, taken apart: vectors of texts and pictures, their similarity, and why it is what it is."""
