"""The commands of docs/rows: diffusers' GLIGEN, small and random, and a server that stands in for ComfyUI."""

import io
import json
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import numpy as np
import pytest
import tiny_models
import torch
import transformers
from PIL import Image

from instdiff.layouts import files
from instdiff.schema import Box, Instance, Layout

ROWS = Path(__file__).parents[3] / "docs" / "rows"
LAYOUTS = [
    Layout(
        key="two",
        prompt="a red circle on the blue square",
        instances=(
            Instance(phrase="red circle", box=Box(0, 0.25, 0.5, 0.75)),
            Instance(phrase="blue square", box=Box(0.5, 0, 1, 1)),
        ),
    ),
    Layout(key="none", prompt="a photo", instances=()),
]


def gligen(folder: Path) -> Path:
    """diffusers' pipeline with small random networks."""
    torch.manual_seed(0)
    tiny_models.clip(folder / "clip")
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        attention_type="gated",
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(16, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
    )
    text = transformers.CLIPTextModel.from_pretrained(folder / "clip")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "clip", model_max_length=16)
    diffusers.StableDiffusionGLIGENPipeline(
        vae, text, tokenizer, unet, diffusers.DDIMScheduler(), None, None, requires_safety_checker=False
    ).save_pretrained(folder / "gligen")
    return folder / "gligen"


def test_gligen_of_diffusers_draws_a_row(tmp_path: Path) -> None:
    weights = gligen(tmp_path)
    (tmp_path / "out").mkdir()
    pictures = []
    for layouts in (LAYOUTS, LAYOUTS[::-1]):
        files.write(tmp_path / "layouts.json", layouts)
        words = [str(tmp_path / "layouts.json"), str(tmp_path / "out"), "3", str(weights), "2"]
        subprocess.run([sys.executable, str(ROWS / "gligen.py"), *words], check=True, capture_output=True)
        pictures.append([np.asarray(Image.open(tmp_path / "out" / f"{layout.key}.png")) for layout in LAYOUTS])
    assert all(np.array_equal(picture, other) for picture, other in zip(*pictures, strict=True))  # whatever the order
    assert not np.array_equal(*pictures[0])


class Comfy(BaseHTTPRequestHandler):
    """ComfyUI as far as the script knows it: a queue, a history that is late once, pictures by name."""

    graphs: ClassVar[list[dict[str, Any]]] = []
    late: ClassVar[set[str]] = set()

    def log_message(self, *_: object) -> None: ...

    def do_POST(self) -> None:
        self.graphs.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"])
        self.late.add(str(len(self.graphs)))
        self.reply(json.dumps({"prompt_id": str(len(self.graphs))}).encode())

    def do_GET(self) -> None:
        place = urllib.parse.urlsplit(self.path)
        if place.path == "/view":
            stream = io.BytesIO()
            number = int(urllib.parse.parse_qs(place.query)["filename"][0].removesuffix(".png"))
            Image.new("RGB", (8, 8), (number, 0, 0)).save(stream, "png")
            self.reply(stream.getvalue())
            return
        name = place.path.rpartition("/")[2]
        images = [{"filename": f"{name}.png", "subfolder": "", "type": "output"}]
        history = {} if name in self.late else {name: {"outputs": {"9": {"images": images}}}}
        self.late.discard(name)
        self.reply(json.dumps(history).encode())

    def reply(self, content: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def comfy() -> Iterator[str]:
    Comfy.graphs.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Comfy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_comfyui_workflow_is_filled_for_each_layout_and_its_picture_fetched(tmp_path: Path, comfy: str) -> None:
    files.write(tmp_path / "layouts.json", LAYOUTS)
    (tmp_path / "out").mkdir()
    workflow = {
        "1": {"inputs": {"text": "{prompt}, sharp", "seed": "{seed}", "width": "{size=64}"}},
        "2": {"inputs": {"text": "{phrase1}", "x": "{x1}", "y": "{y1}", "width": "{width1}", "height": "{height1}"}},
        "3": {"inputs": {"text": "{phrase2}", "x": "{x2}", "from": ["1", 0], "strength": 0.5}},
    }
    (tmp_path / "workflow.json").write_text(json.dumps(workflow))
    words = [str(tmp_path / "layouts.json"), str(tmp_path / "out"), "3", str(tmp_path / "workflow.json"), comfy]
    subprocess.run([sys.executable, str(ROWS / "comfyui.py"), *words], check=True, capture_output=True)
    two, none = (graph for graph in Comfy.graphs)
    assert two["1"]["inputs"]["text"] == "a red circle on the blue square, sharp"
    assert isinstance(two["1"]["inputs"]["seed"], int) and two["1"]["inputs"]["seed"] != none["1"]["inputs"]["seed"]
    assert two["2"]["inputs"] == {"text": "red circle", "x": 0, "y": 16, "width": 32, "height": 32}
    assert two["3"]["inputs"] == {"text": "blue square", "x": 32, "from": ["1", 0], "strength": 0.5}
    assert none["3"]["inputs"]["text"] == "" and none["2"]["inputs"]["width"] == 0
    for number, layout in enumerate(LAYOUTS, start=1):
        assert Image.open(tmp_path / "out" / f"{layout.key}.png").getpixel((0, 0)) == (number, 0, 0)
