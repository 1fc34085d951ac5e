"""The byte-level BPE that T5 and BART of the suite read and write, trained on the words of captions and prompts.

Text is lower-cased, as CLIP's is. Thai is written without spaces between words, and a word must look the same after a
space and after another word, so a space before Thai is a piece of its own; before other letters it belongs to the
word, as in GPT-2. Bytes make every text readable, so `unk` is there only because the classes ask for one.
"""

from collections.abc import Sequence

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY_SIZE = 3000
T5_SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
BART_SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
BART_ROLES = {"cls_token": "<s>", "sep_token": "</s>"}
BART_POSITIONS = 128
SENTINELS = tuple(f"<extra_id_{number}>" for number in range(8))
MASK = "<mask>"

_THAI = r"\u0E00-\u0E7F"
_PIECES = rf"[{_THAI}]+| ?(?:(?![{_THAI}])[\p{{L}}\p{{M}}])+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{M}}\p{{N}}{_THAI}]+| "
_TYPED_OTHERWISE = (("เเ", "แ"), ("ํา", "ำ"))  # two keystrokes that look like one letter


def train_t5_tokenizer(corpus: Sequence[str]) -> PreTrainedTokenizerFast:
    """`text </s>`; the sentinels of span filling are the last entries, as in T5."""
    tokenizer = _train(corpus, T5_SPECIAL)
    tokenizer.add_special_tokens([AddedToken(sentinel, special=True, lstrip=True) for sentinel in SENTINELS])
    return t5_tokenizer(tokenizer)


def train_bart_tokenizer(corpus: Sequence[str]) -> PreTrainedTokenizerFast:
    """`<s> text </s>`; the mask is the last entry, as in BART."""
    tokenizer = _train(corpus, BART_SPECIAL)
    tokenizer.add_special_tokens([AddedToken(MASK, special=True, lstrip=True)])
    return bart_tokenizer(tokenizer)


def t5_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Wrap what `train_t5_tokenizer` learned, for example from a checkpoint's `Tokenizer.from_str`."""
    _end_with(tokenizer, "$A </s>", "$A </s> $B </s>", ("</s>",))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        additional_special_tokens=list(SENTINELS),
        model_max_length=512,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        **T5_SPECIAL,
    )


def bart_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Wrap what `train_bart_tokenizer` learned."""
    _end_with(tokenizer, "<s> $A </s>", "<s> $A </s> </s> $B </s>", ("<s>", "</s>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        mask_token=AddedToken(MASK, special=True, lstrip=True),
        model_max_length=BART_POSITIONS,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        **BART_SPECIAL,
        **BART_ROLES,
    )


def text_of(tokenizer: PreTrainedTokenizerFast) -> str:
    """What a checkpoint keeps; `t5_tokenizer` and `bart_tokenizer` take it back by `Tokenizer.from_str`.

    Without the padding that the last call asked for, which a fast tokenizer remembers.
    """
    bare = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    bare.no_padding()
    bare.no_truncation()
    return bare.to_str()


def _train(corpus: Sequence[str], special: dict[str, str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            *(normalizers.Replace(typed, meant) for typed, meant in _TYPED_OTHERWISE),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[\s\p{C}]+"), " "),
            normalizers.Strip(),
            normalizers.Prepend(" "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=list(special.values()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def _end_with(tokenizer: Tokenizer, one: str, two: str, tokens: Sequence[str]) -> None:
    tokenizer.no_padding()  # a checkpoint's tokenizer may remember that of its last batch
    tokenizer.no_truncation()
    numbered = [(token, tokenizer.token_to_id(token)) for token in tokens]
    tokenizer.post_processor = processors.TemplateProcessing(single=one, pair=two, special_tokens=numbered)
