"""Byte pairs: from the words of a small world to the pieces of a CLIP tokenizer, the same in every run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from tokenizers.pre_tokenizers import ByteLevel

WORD_END = "</w>"  # how CLIP marks the last piece of a word
Pair = tuple[str, str]


def pieces(merges: Sequence[Pair]) -> list[str]:
    """Every byte, in a word and at its end, and what the merges make of them."""
    letters = sorted(ByteLevel.alphabet())
    return list(dict.fromkeys([*letters, *(letter + WORD_END for letter in letters), *map("".join, merges)]))


def merges(sentences: Sequence[str]) -> list[Pair]:
    """The merges that make each word of ASCII sentences one piece, the most frequent pair first (Sennrich et al. 2016).

    Pairs that are as frequent come in alphabetical order; the tokenizers library takes them in another in every run.
    """
    counts = Counter(word for sentence in sentences for word in sentence.split())
    spelled = {word: [*word[:-1], word[-1] + WORD_END] for word in counts}
    merged: list[Pair] = []
    while pairs := _counted(spelled, counts):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merged.append(best)
        spelled = {word: _joined(pieces, best) for word, pieces in spelled.items()}
    return merged


def _counted(spelled: Mapping[str, Sequence[str]], counts: Mapping[str, int]) -> Counter[Pair]:
    pairs: Counter[Pair] = Counter()
    for word, pieces in spelled.items():
        for pair in pairwise(pieces):
            pairs[pair] += counts[word]
    return pairs


def _joined(pieces: Sequence[str], pair: Pair) -> list[str]:
    joined: list[str] = []
    for piece in pieces:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined
