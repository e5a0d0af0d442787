import subprocess
import sys

from instdiff.foundation import byte_pairs, clip
from instdiff.networks import clip as clip_networks
from instdiff.world.appearance import COLOURS, SHAPES, TEXTURES
from instdiff.world.scenes import BACKGROUNDS


def test_the_most_frequent_pair_comes_first_and_the_alphabet_decides_between_equals() -> None:
    assert byte_pairs.merges(["ab ab cab", "dc"]) == [("a", "b</w>"), ("c", "ab</w>"), ("d", "c</w>")]


def test_every_word_of_the_world_is_one_token() -> None:
    words = [*COLOURS, *TEXTURES, *SHAPES, *BACKGROUNDS, "a", "and", "on", "background"]
    ids = clip_networks.token_ids(clip.new_tokenizer(8), words, 8)
    assert (ids == ids[0, -1]).sum(1).tolist() == [6] * len(words)  # one start, one word, then ends
    assert len(set(ids[:, 1].tolist())) == len(words)


def test_the_tokenizer_is_the_same_in_another_process() -> None:
    imports = "from instdiff.foundation import byte_pairs; from instdiff.world import corpus"
    code = f"{imports}; print(byte_pairs.merges(corpus.SENTENCES))"
    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(runs) == 1
