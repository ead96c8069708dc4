"""Small tokenizers of KerasHub's kinds, made of a few sentences, and models that read them."""

from __future__ import annotations

import io
import json
import string
from functools import cache
from typing import Any

import hub_backbones  # KerasHub, imported without what it deprecates.
import sentencepiece
from keras_hub import tokenizers as hub
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CODE = [
    "def add(first, second):\n    return first + second\n",
    "for number in range(10):\n    print(number, number ** 2)\n",
    "class Reader:\n    def read(self, path):\n        return open(path).read()\n",
    "if name in names and name != other:\n    raise ValueError(name)\n",
    "import os\nimport sys\n\nprint(os.path.join(sys.argv[0], 'here'))\n",
]
PROSE = [
    "The quick brown fox jumps over the lazy dog, again and again.",
    "Nobody knows how many readers there are, nor what they want to read.",
    "It was raining when she returned, and the names were all forgotten.",
    "Überall naïve cafés: 東京 and Ελλάδα, 100 % of them.",
]
TEXTS = CODE + PROSE
END = "<|endoftext|>"


@cache
def trained() -> Tokenizer:
    """Return byte pairs learnt from the sentences, with one special token."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXTS * 3, trainer)
    return made


def rules() -> tuple[dict[str, int], list[str]]:
    """Return vocabulary and merges of `trained`, as KerasHub takes them.

    The special token stands last, as in GPT-2's: token 0 pads, and would end a text at once.
    """
    told = json.loads(trained().to_str())["model"]
    names = [name for name in told["vocab"] if name != END]
    vocabulary = {name: number for number, name in enumerate([*names, END])}
    return vocabulary, [" ".join(merge) for merge in told["merges"]]


def gpt2() -> Any:
    return hub_backbones.models.GPT2Tokenizer(*rules())


def llama3() -> Any:
    vocabulary, merges = rules()
    more = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    more += ["<|start_header_id|>", "<|end_header_id|>", "<|image|>"]
    vocabulary.update({name: len(vocabulary) + place for place, name in enumerate(more)})
    return hub_backbones.models.Llama3Tokenizer(vocabulary, merges)


def bert() -> Any:
    words = sorted({word.lower() for text in TEXTS for word in text.split() if word.isalpha()})
    letters = sorted(set("".join(TEXTS).lower()) - {" ", "\n"} | set(string.ascii_lowercase))
    pieces = [f"##{word[i:]}" for word in words for i in (1, 2, 3) if word[i:]]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    alone = [*letters, *(f"##{letter}" for letter in letters)]
    vocabulary = list(dict.fromkeys([*special, *alone, *words, *pieces]))
    return hub_backbones.models.BertTokenizer(vocabulary, lowercase=True)


@cache
def proto(kind: str, byte_fallback: bool, size: int) -> bytes:
    """Return a SentencePiece model of the sentences."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 3),
        model_writer=written,
        model_type=kind,
        vocab_size=size,
        byte_fallback=byte_fallback,
        character_coverage=0.98 if byte_fallback else 1.0,
        pad_id=0,
        unk_id=3,
        bos_id=1,
        eos_id=2,
        pad_piece="<pad>",
        bos_piece="<bos>" if byte_fallback else "<s>",
        eos_piece="<eos>" if byte_fallback else "</s>",
        user_defined_symbols=["\n", "    "],
        normalization_rule_name="identity" if byte_fallback else "nmt_nfkc",
        remove_extra_whitespaces=not byte_fallback,
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue()


def gemma() -> Any:
    """Byte pairs with scores, and bytes for what has no token."""
    return hub_backbones.models.GemmaTokenizer(proto("bpe", True, 420))


def t5() -> Any:
    """A unigram model without bytes."""
    return hub_backbones.models.T5Tokenizer(proto("unigram", False, 115))


def llama() -> Any:
    """Byte pairs with scores, without bytes."""
    return hub_backbones.models.LlamaTokenizer(proto("bpe", False, 180))


ALL = {"gpt2": gpt2, "llama3": llama3, "bert": bert, "gemma": gemma, "t5": t5, "llama": llama}
PLAIN = hub.ByteTokenizer
