"""CLIP's byte-level BPE, learnt on the captions: small vocabulary, yet no text on earth is unknown to it.

The vocabulary is laid out as OpenAI's: 256 byte symbols, the same with `</w>`, one entry a merge, and the two special
tokens last. Every byte is there with and without the word end, so any input has a tokenisation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 77


def byte_symbols() -> list[str]:
    """The 256 printable stand-ins for bytes, in the order of GPT-2 and CLIP."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [b for b in range(256) if b not in shown]
    return [chr(b) for b in shown] + [chr(256 + i) for i in range(len(hidden))]


def learn(texts: Iterable[str], merges: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Learns at most `merges` merges on `texts`; returns vocabulary and merges in CLIP's layout."""
    reference = CLIPTokenizer(vocab={BOS: 0, EOS: 1}, merges=[])
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = reference.backend_tokenizer.normalizer
    tokenizer.pre_tokenizer = reference.backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=2 * 256 + merges,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        show_progress=False,
        special_tokens=[],
    )
    tokenizer.train_from_iterator(texts, trainer)
    learnt = [tuple(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]][:merges]
    symbols = byte_symbols()
    entries = symbols + [s + "</w>" for s in symbols] + [a + b for a, b in learnt]
    vocab = {s: i for i, s in enumerate(dict.fromkeys(entries))}
    for special in (BOS, EOS):
        vocab[special] = len(vocab)
    return vocab, learnt


def save(folder: Path, vocab: dict[str, int], merges: list[tuple[str, str]]) -> None:
    """Writes vocab.json, merges.txt, tokenizer.json, tokenizer_config.json and special_tokens_map.json."""
    folder.mkdir(parents=True, exist_ok=True)
    build(vocab, merges).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    specials = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": EOS}
    (folder / "special_tokens_map.json").write_text(json.dumps(specials, indent=2) + "\n")


def build(vocab: dict[str, int], merges: list[tuple[str, str]]) -> CLIPTokenizer:
    """Makes the transformers tokenizer of a vocabulary and its merges."""
    return CLIPTokenizer(vocab=vocab, merges=list(merges), model_max_length=MAX_LENGTH)


def load(folder: Path) -> CLIPTokenizer:
    """Reads a tokenizer that `save` wrote."""
    return CLIPTokenizer.from_pretrained(folder)
