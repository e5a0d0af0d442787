"""instdiff page: a page on this machine where layouts are drawn with the mouse and their pictures appear.

Legend: H W pixels of the canvas.
"""

import argparse
import base64
import datetime as dt
import functools
import html
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image, ImageDraw

from instdiff.app import generate
from instdiff.layouts import files, from_tables, masks
from instdiff.layouts.masks import Mask
from instdiff.layouts.overlay import overlay
from instdiff.options import PORT
from instdiff.picture_files import opened
from instdiff.sampling.pipeline import InstanceDiffusionPipeline
from instdiff.schema import Box, Instance, Layout, Point, Rle

Strokes = Mapping[str, Sequence[Sequence[float]]]  # of one instance: kind -> places, in fractions of the picture
Size = tuple[int, int]  # width, height

LOOPBACK = "127.0.0.1"
KEY = "drawn"
_SIDE = 512  # pixels of the canvas's longer side
_PAPER = (90, 90, 90)
_HELP = """# Draw a layout
Drag a box, go round a mask, scribble, set a point: any of them for one instance. Say what it is, add it, and go on."""
_CANVAS = """
<fieldset>
  <label><input type="radio" name="kind" value="box" checked> Box</label>
  <label><input type="radio" name="kind" value="mask"> Mask</label>
  <label><input type="radio" name="kind" value="scribble"> Scribble</label>
  <label><input type="radio" name="kind" value="point"> Point</label>
  <button type="button">Clear</button>
</fieldset>
<canvas width="WIDTH" height="HEIGHT" style="background-image: url(${behind})"></canvas>
"""
_STYLE = """
fieldset { display: flex; gap: 1.2em; align-items: center; border: 0; margin: 0 0 .6em; padding: 0; }
label { cursor: pointer; }
input { appearance: auto; accent-color: var(--color-accent); margin-right: .3em; }
button { margin-left: auto; padding: .1em .8em; border: 1px solid var(--border-color-primary); border-radius: 6px; }
canvas { display: block; width: 100%; border-radius: 8px; background-size: 100% 100%; cursor: crosshair;
  touch-action: none; }
"""


def main(arguments: Sequence[str]) -> None:
    """Serve the page until it is interrupted."""
    parser = generate.parser("instdiff page", __doc__)
    parser.set_defaults(solver="dpm", steps=20)
    parser.add_argument("--port", type=PORT, default=7860)
    options = generate.parsed(parser, arguments)
    path: Path | None = options.layout or options.input_json
    begun = None if path is None else files.read(path, compat=options.compat)[0]
    made = Page(generate.loaded(options), options).blocks(begun)
    print(f"draw at {serve(made, options.port)} (pictures go to {options.output}); Ctrl-C ends it", flush=True)
    made.block_thread()


def serve(made: Any, port: int) -> str:
    """The address at which this machine, and no other, has the page from now on; OSError if the port is taken."""
    _, address, _ = made.launch(
        server_name=LOOPBACK,
        server_port=port,
        share=False,
        ssr_mode=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=[],
        quiet=True,
        prevent_thread_lock=True,
    )
    return str(address)


def instance(phrase: str, strokes: Strokes, size: Size) -> Instance:
    """What was drawn on a canvas of this size; ValueError when the phrase is empty or a stroke says nothing."""
    if not phrase.strip():
        raise ValueError("say what the instance is")
    places: dict[str, Any] = {
        kind: place(kind, [Point(*map(float, at)) for at in points], size) for kind, points in strokes.items()
    }
    return Instance(phrase=phrase.strip(), **places)


def place(kind: str, stroke: Sequence[Point], size: Size) -> Box | Rle | tuple[Point, ...] | Point:
    """What a stroke of this kind says."""
    match kind:
        case "box":
            (left, top), (right, bottom) = np.min(stroke, axis=0).tolist(), np.max(stroke, axis=0).tolist()
            if left == right or top == bottom:
                raise ValueError("drag the box from one corner to the other")
            return Box(left, top, right, bottom)
        case "mask":
            if len(stroke) < 3:
                raise ValueError("go round the mask")
            return masks.encode(enclosed(stroke, size))
        case "scribble":
            return files.along(stroke)
        case "point":
            return stroke[-1]
        case _:
            raise ValueError(f"there is no stroke of the kind {kind!r}")


def enclosed(stroke: Sequence[Point], size: Size) -> Mask:
    """What the stroke goes round, its ends joined."""
    width, height = size
    image = Image.new("L", size)
    ImageDraw.Draw(image).polygon([(x * width, y * height) for x, y in stroke], fill=1)
    inside_HW: Mask = np.asarray(image) > 0
    return inside_HW


def careful(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, its faults shown on the page as one sentence."""

    @functools.wraps(function)
    def wrapped(*given: Any) -> Any:
        try:
            return function(*given)
        except (ValueError, OSError) as error:
            raise gr.Error(html.escape(str(error)), print_exception=False) from error

    return wrapped


class Page:
    """The page of one pipeline; options are those of `instdiff generate`."""

    def __init__(self, pipeline: InstanceDiffusionPipeline, options: argparse.Namespace) -> None:
        self.pipeline, self.options = pipeline, options
        side = pipeline.unet.config.sample_size * pipeline.scale
        width, height = options.width or side, options.height or side
        longer = max(width, height)
        self.size: Size = (round(_SIDE * width / longer), round(_SIDE * height / longer))

    def blocks(self, begun: Layout | None = None) -> Any:
        """The page, not yet served; it starts with the layout `begun`, or with none."""
        instances = [] if begun is None else list(begun.instances)
        with gr.Blocks(title="instdiff", analytics_enabled=False) as made:
            gr.Markdown(_HELP)
            drawn = gr.State(instances)
            with gr.Row():
                with gr.Column():
                    canvas = self._canvas(instances)
                    phrase = gr.Textbox(label="Phrase", placeholder="a grey cat")
                    with gr.Row():
                        add, undo = gr.Button("Add instance"), gr.Button("Remove last")
                        file = gr.UploadButton("Open layout", file_types=[".json"])
                with gr.Column():
                    prompt = gr.Textbox("" if begun is None else begun.prompt, label="Prompt", lines=2)
                    chosen = self._choices()
                    draw = gr.Button("Draw", variant="primary")
                    pictures = gr.Gallery(
                        label="Picture, and with its layout", elem_id="pictures", columns=2, format="png",
                        object_fit="contain", height="auto", buttons=["download", "fullscreen"],
                    )  # fmt: skip
            written = gr.JSON(self._json("", instances), label="Layout file", elem_id="written")
            shown = [drawn, canvas, written, phrase]
            told = [prompt, drawn, canvas, phrase]
            quiet = {"show_progress": "hidden"}
            gr.on([add.click, phrase.submit], careful(self.added), told, shown, **quiet)
            undo.click(careful(self.removed), [prompt, drawn], shown, **quiet)
            file.upload(careful(self.opened), [file], [prompt, *shown], **quiet)
            draw.click(careful(self.kept), told, shown, **quiet).success(
                careful(self.drawn), [prompt, drawn, *chosen], [pictures]
            )
        return made

    def added(self, prompt: str, drawn: list[Instance], strokes: Strokes, phrase: str) -> tuple[Any, ...]:
        """The layout with what is on the canvas."""
        return self.shown(prompt, [*drawn, instance(phrase, strokes or {}, self.size)])

    def kept(self, prompt: str, drawn: list[Instance], strokes: Strokes, phrase: str) -> tuple[Any, ...]:
        """The layout with what is on the canvas, if anything is."""
        if strokes or phrase.strip():
            return self.added(prompt, drawn, strokes, phrase)
        return self.shown(prompt, drawn)

    def removed(self, prompt: str, drawn: list[Instance]) -> tuple[Any, ...]:
        """The layout without its last instance."""
        return self.shown(prompt, drawn[:-1])

    def opened(self, path: str) -> tuple[Any, ...]:
        """The first layout of a file."""
        layout = files.read(Path(path), compat=self.options.compat)[0]
        return layout.prompt, *self.shown(layout.prompt, list(layout.instances))

    def shown(self, prompt: str, drawn: list[Instance]) -> tuple[Any, ...]:
        """Instances, the canvas with them and no strokes, the layout file, and no phrase."""
        return drawn, gr.HTML(value={}, behind=self._behind(drawn)), self._json(prompt, drawn), ""

    def drawn(
        self,
        prompt: str,
        drawn: list[Instance],
        seed: float,
        steps: float,
        alpha: float,
        mis: float,
        begun: str | None,
        strength: float,
    ) -> list[Image.Image]:
        """Pictures, each followed by itself with the layout; the folder with their record is that of the command."""
        image = None if begun is None else Path(begun)
        chosen = {"seed": int(seed), "steps": int(steps), "alpha": alpha, "mis": mis, "image": image}
        options = argparse.Namespace(**{**vars(self.options), **chosen, "strength": strength})
        layout = _layout(prompt, drawn)
        out = generate.target(options, Path(f"page-{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S-%f}"))
        made = generate.write(self.pipeline, [layout], options, out)
        pictures = [opened(out / one["file"]) for one in made]
        large = [picture.resize(self.size) if max(picture.size) < _SIDE else picture for picture in pictures]
        return [view for picture in large for view in (picture, overlay(picture, layout))]

    def _choices(self) -> list[Any]:
        """Seed, steps, alpha, mis, and a picture to start from, beginning at those of the command line."""
        with gr.Row():
            seed = gr.Number(self.options.seed, label="Seed", precision=0, minimum=0)
            steps = gr.Slider(1, 100, self.options.steps, step=1, label="Steps")
        with gr.Row():
            alpha = gr.Slider(0, 1, self.options.alpha, label="alpha: steps in which instances count")
            mis = gr.Slider(0, 1, self.options.mis, label="mis: steps in which they are drawn apart")
        begun = self.options.image
        with gr.Accordion("Start from a picture", open=begun is not None):
            image = gr.Image(
                None if begun is None else opened(begun), label="Picture", type="filepath", sources=["upload"],
                elem_id="begun", height=200, buttons=[],
            )  # fmt: skip
            strength = gr.Slider(0.01, 1, self.options.strength, label="strength: steps that are drawn anew over it")
        return [seed, steps, alpha, mis, image, strength]

    def _canvas(self, drawn: Sequence[Instance]) -> Any:
        width, height = map(str, self.size)
        return gr.HTML(
            {},
            html_template=_CANVAS.replace("WIDTH", width).replace("HEIGHT", height),
            css_template=_STYLE,
            js_on_load=Path(__file__).with_name("canvas.js").read_text(),
            apply_default_css=False,
            elem_id="canvas",
            behind=self._behind(drawn),
        )

    def _behind(self, drawn: Sequence[Instance]) -> str:
        """Address of a picture of the instances so far, which holds the picture itself."""
        page = io.BytesIO()
        overlay(Image.new("RGB", self.size, _PAPER), _layout("", drawn)).save(page, "PNG")
        return "data:image/png;base64," + base64.b64encode(page.getvalue()).decode()

    def _json(self, prompt: str, drawn: Sequence[Instance]) -> dict[str, Any]:
        return from_tables.to_json(_layout(prompt, drawn))


def _layout(prompt: str, drawn: Sequence[Instance]) -> Layout:
    return Layout(key=KEY, prompt=prompt, instances=tuple(drawn))
