"""The model's own tokenizer: byte-level BPE with Qwen's way of cutting text into words, and a small vocabulary.

Merges are learned from the natural-language skills only. Strings to copy or reverse stay out, so that they fall into
single letters and short pieces whose spelling the model can learn.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from conversation import TRAIN, WEIGHTS, Memory, phrase, system_prompt
from skills import copying, reversing, spelling
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

VOCABULARY = 1024
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MARKS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|"
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _corpus(turns: int) -> Iterator[str]:
    rng = random.Random(0)
    skills = [skill for skill in WEIGHTS if skill not in (copying, reversing, spelling)]
    weights = [WEIGHTS[skill] for skill in skills]
    memory = Memory()
    for _ in range(turns):
        prompt, brief = system_prompt(rng, TRAIN, memory)
        skill = rng.choices(skills, weights)[0]
        yield from phrase(rng, skill(rng, TRAIN, memory), TRAIN, brief)
        yield from ("user\n", "assistant\n", "\n\n", "system\n" + (prompt or ""))


def build(folder: Path) -> Tokenizer:
    """Learns the vocabulary and writes `tokenizer.json` and `tokenizer_config.json` into `folder`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False, trim_offsets=False),
        ]
    )
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, use_regex=False, trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, use_regex=False, trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL + MARKS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=5,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(60_000), trainer)
    tokenizer.add_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in MARKS])
    assert tokenizer.get_vocab_size() == VOCABULARY, tokenizer.get_vocab_size()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "model_max_length": 2048,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return tokenizer


if __name__ == "__main__":
    build(Path(__file__).resolve().parent.parent)
