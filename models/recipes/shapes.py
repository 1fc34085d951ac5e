"""The networks: their sizes, and how to build them with fresh weights."""

from collections.abc import Sequence
from dataclasses import dataclass

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from models.recipes.draw import PICTURE_SIZE
from models.recipes.text_tokenizer import BART_POSITIONS
from models.recipes.tokenizer import POSITIONS

LATENT_SIZE = PICTURE_SIZE // 8


@dataclass(frozen=True)
class ClipShape:
    """Sizes of both towers."""

    text_width: int = 192
    text_layers: int = 3
    vision_width: int = 192
    vision_layers: int = 5
    heads: int = 4
    patch: int = 16
    embedding: int = 128


def build_clip(tokenizer: CLIPTokenizer, shape: ClipShape) -> CLIPModel:
    """A `CLIPModel` with fresh weights, whose text tower knows the tokenizer's special tokens."""
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": shape.text_width,
        "intermediate_size": 4 * shape.text_width,
        "num_hidden_layers": shape.text_layers,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": POSITIONS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": shape.vision_width,
        "intermediate_size": 4 * shape.vision_width,
        "num_hidden_layers": shape.vision_layers,
        "num_attention_heads": shape.heads,
        "image_size": PICTURE_SIZE,
        "patch_size": shape.patch,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=shape.embedding))


@dataclass(frozen=True)
class VaeShape:
    """Channels by level, the picture's first. The full-size level dominates the cost, so it is narrow."""

    channels: tuple[int, ...] = (16, 32, 96, 128)
    latent_channels: int = 4
    groups: int = 8


def build_vae(shape: VaeShape) -> AutoencoderKL:
    """An `AutoencoderKL` with fresh weights; no attention in the middle, which little pictures do not need."""
    levels = len(shape.channels)
    return AutoencoderKL(
        block_out_channels=shape.channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=shape.latent_channels,
        norm_num_groups=shape.groups,
        mid_block_add_attention=False,
        sample_size=PICTURE_SIZE,
    )


@dataclass(frozen=True)
class UnetShape:
    """Channels by level, 16x16 first. Transformers stand at 8x8 and, on the way up, at 16x16.

    At 16x16 both attention layers of a transformer read the text: attention of 256 positions to each other would cost
    a third of the time, and 8x8 is enough to agree on where things go.
    """

    channels: tuple[int, ...] = (64, 128)
    heads: int = 4
    groups: int = 16
    text_width: int = 192


def build_unet(shape: UnetShape) -> UNet2DConditionModel:
    """A `UNet2DConditionModel` with fresh weights on (4, 16, 16) latents."""
    levels = len(shape.channels)
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        block_out_channels=shape.channels,
        layers_per_block=1,
        norm_num_groups=shape.groups,
        attention_head_dim=shape.heads,  # the number of heads, in spite of its name
        cross_attention_dim=shape.text_width,
        only_cross_attention=(True,) + (False,) * (levels - 1),
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * (levels - 1),
        up_block_types=("CrossAttnUpBlock2D",) * levels,
    )


def build_scheduler() -> DDIMScheduler:
    """The noise schedule of Stable Diffusion 1.x, for a network that predicts velocity."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )


@dataclass(frozen=True)
class TextShape:
    """Sizes of an encoder and decoder for captions; as many layers in each."""

    width: int = 128
    layers: int = 3
    heads: int = 4
    inner_width: int = 384


LONGEST_CAPTION = 64  # tokens that `generate` writes at most; captions have 19


def build_t5(tokenizer: PreTrainedTokenizerFast, shape: TextShape) -> T5ForConditionalGeneration:
    """A `T5ForConditionalGeneration` with fresh weights that starts from the padding token, as T5 does."""
    tokens = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=shape.width,
            d_kv=shape.width // shape.heads,
            d_ff=shape.inner_width,
            num_layers=shape.layers,
            num_heads=shape.heads,
            dropout_rate=0.0,
            decoder_start_token_id=tokenizer.pad_token_id,
            **tokens,
        )
    )
    model.generation_config = GenerationConfig(
        decoder_start_token_id=tokenizer.pad_token_id, max_new_tokens=LONGEST_CAPTION, **tokens
    )
    return model


def build_bart(tokenizer: PreTrainedTokenizerFast, shape: TextShape) -> BartForConditionalGeneration:
    """A `BartForConditionalGeneration` with fresh weights that starts from the end token, as BART does."""
    tokens = {
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.eos_token_id,
        "forced_eos_token_id": tokenizer.eos_token_id,
    }
    model = BartForConditionalGeneration(
        BartConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=BART_POSITIONS,
            d_model=shape.width,
            encoder_layers=shape.layers,
            decoder_layers=shape.layers,
            encoder_attention_heads=shape.heads,
            decoder_attention_heads=shape.heads,
            encoder_ffn_dim=shape.inner_width,
            decoder_ffn_dim=shape.inner_width,
            dropout=0.0,
            scale_embedding=True,
            **tokens,
        )
    )
    model.generation_config = GenerationConfig(max_new_tokens=LONGEST_CAPTION, **tokens)
    return model


@dataclass(frozen=True)
class VitShape:
    """Sizes of the classifier."""

    width: int = 160
    layers: int = 4
    heads: int = 4
    patch: int = 16


def build_vit(labels: Sequence[str], shape: VitShape) -> ViTForImageClassification:
    """A `ViTForImageClassification` with fresh weights over these labels."""
    return ViTForImageClassification(
        ViTConfig(
            hidden_size=shape.width,
            intermediate_size=4 * shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            image_size=PICTURE_SIZE,
            patch_size=shape.patch,
            initializer_range=shape.width**-0.5,  # the class's 0.02 suits widths near 1,000
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
        )
    )
