"""The views of CLIP are drawn from what the tiny CLIP of tests/clip computes."""

from tests.clip.conftest import clip, encoder, siglip, siglip_encoder, tokenizer

__all__ = ["clip", "encoder", "siglip", "siglip_encoder", "tokenizer"]
