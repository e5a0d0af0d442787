"""The fusers that ComfyUI's users load state their sizes, each its own."""

from pathlib import Path

import golden_cases as golden

from instdiff.checkpoints import comfyui
from instdiff.networks import weight_files


def test_each_fuser_states_the_widths_and_heads_of_its_weights(tmp_path: Path) -> None:
    comfyui.write(golden.unet(), tmp_path / "comfy")
    ways = weight_files.read(tmp_path / "comfy" / comfyui.FUSERS)
    assert [list(blocks) for blocks in ways.values()] == [["1", "2", "4", "5"], ["1"], ["3", "4", "5", "6", "7", "8"]]
    heads = golden.UNET["attention_head_dim"]
    for blocks in ways.values():
        for fuser in blocks.values():
            channels, width = fuser["state"]["linear.weight"].shape
            assert fuser["params"] == {"context_dim": width, "n_heads": heads, "d_head": channels // heads}
    scales = weight_files.read(tmp_path / "comfy" / comfyui.SCALE_U)
    assert list(scales) == [str(number) for number in range(9)]
    assert all(set(own) == {"scaleu_b", "scaleu_s"} for own in scales.values())
