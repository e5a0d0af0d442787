"""instdiff page: a page on this machine where layouts are laid out by hand and their pictures appear.

It answers its own pages alone (gate.py), and draws for whoever has the address that is printed: what follows `#` there
is a token that is made anew each time.
"""

import argparse
import base64
import datetime as dt
import functools
import hashlib
import io
import itertools
import json
import queue
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from instdiff.app import generate, generate_options, sketch
from instdiff.app.gate import Gate
from instdiff.checkpoints import assemble
from instdiff.files import atomic
from instdiff.files.picture_files import opened
from instdiff.files.texts import first_fault
from instdiff.layouts import files, from_tables
from instdiff.layouts.formats import FORMATS
from instdiff.layouts.overlay import overlay
from instdiff.options import PORT
from instdiff.sampling.pipeline import InstanceDiffusionPipeline
from instdiff.schema import Layout
from instdiff.world.appearance import COLOURS, SHAPES, TEXTURES

LOOPBACK = "127.0.0.1"
POLICY = "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; form-action 'none'; base-uri 'none'"
KEY = "drawn"
_STATIC = Path(__file__).parent / "drawing"
_SIDE = 512  # pixels of the longer side of a picture on the page, at least
_WORLD = 1000  # words: a tokenizer of fewer was learned on the captions of the miniature world


def main(arguments: Sequence[str]) -> None:
    """Serve the page until it is interrupted."""
    parser = generate_options.parser("instdiff page", __doc__)
    parser.add_argument("--port", type=PORT, default=7860)
    options = generate_options.parsed(parser, arguments)
    options, _ = generate_options.settled(options, assemble.stated(options.ckpt, options.instance).drawing)
    path: Path | None = options.layout or options.input_json
    begun = None if path is None else files.read(path, compat=options.compat)[0]
    with listening(options.port) as listener:
        page = Page(generate.loaded(options), options, begun)
        server = page.server(listener)
        print(f"draw at {page.entrance(listener)} (pictures go to {options.output}); Ctrl-C ends it", flush=True)
        server.run(sockets=[listener])


@contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """A socket of this machine, and no other; OSError names a port that is taken."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError as error:
            raise OSError(f"nothing can be served at port {port} ({error.strerror}); --port names another") from error
        yield listener


def address(listener: socket.socket) -> str:
    """The origin of what is served there."""
    return f"http://{LOOPBACK}:{listener.getsockname()[1]}"


class StoppedError(Exception):
    """The person has seen enough."""


class Page:
    """The page of one pipeline; options are those of `instdiff generate`, `begun` the layout that it starts with."""

    def __init__(
        self, pipeline: InstanceDiffusionPipeline, options: argparse.Namespace, begun: Layout | None = None
    ) -> None:
        self.pipeline, self.options, self.begun = pipeline, options, begun
        self.token = secrets.token_urlsafe(24)
        self.slots = int(pipeline.unet.unifusion.config.max_instances)
        self._drawing, self._stop = threading.Lock(), threading.Event()
        self.app = Starlette(
            routes=[
                Route("/settings", self._answer(self.settings)),
                Route("/open", self._answer(self.open), methods=["POST"]),
                Route("/layout", self._answer(self.layout), methods=["POST"]),
                Route("/draw", self._answer(self.draw), methods=["POST"]),
                Route("/stop", self._answer(self.stop), methods=["POST"]),
                Mount("/", StaticFiles(directory=_STATIC, html=True)),
            ]
        )

    def entrance(self, listener: socket.socket) -> str:
        """The address that a person opens."""
        return f"{address(listener)}/#{self.token}"

    def server(self, listener: socket.socket) -> uvicorn.Server:
        """What serves the page there."""
        app = Gate(self.app, address(listener), POLICY)
        return uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))

    async def settings(self, _: Request) -> Response:
        """What the page shows at first."""
        side = self.pipeline.unet.config.sample_size * self.pipeline.scale
        values = {name: getattr(self.options, name) for name in sketch.Values.model_fields}
        values["width"], values["height"] = self.options.width or side, self.options.height or side
        values["formats"] = generate_options.formats(self.options)
        begun = {"prompt": "", "instances": []} if self.begun is None else from_tables.to_json(self.begun)
        image = None if self.options.image is None else _uri(opened(self.options.image))
        return JSONResponse(
            {
                "values": values,
                "layout": {name: begun[name] for name in ("prompt", "instances")},
                "image": image,
                "formats": FORMATS,
                "scale": self.pipeline.scale,
                "slots": self.slots,
                "words": hints(self.pipeline),
            }
        )

    async def open(self, request: Request) -> Response:
        """The first layout of a file."""
        size = (int(request.query_params.get("width", "512")), int(request.query_params.get("height", "512")))
        name = request.query_params.get("name", sketch.NAME)
        content = await _body(request)
        read = await run_in_threadpool(sketch.read, content, size, self.slots, name, self.options.compat)
        return JSONResponse(sketch.to_json(read))

    async def layout(self, request: Request) -> Response:
        """The layout file of what is laid out."""
        drawing = _parsed(await _body(request))
        values = drawing.values
        read = await run_in_threadpool(sketch.checked, drawing.sketch, (values.width, values.height), self.slots)
        return JSONResponse(sketch.to_json(read))

    async def stop(self, _: Request) -> Response:
        """End the drawing that runs."""
        self._stop.set()
        return JSONResponse({})

    async def draw(self, request: Request) -> Response:
        """A line of JSON a step, then one with the pictures, or with what is wrong."""
        drawing = _parsed(await _body(request))
        return StreamingResponse(self._events(drawing), media_type="application/x-ndjson")

    def _events(self, drawing: sketch.Drawing) -> Iterator[str]:
        """What happens, as it happens; one drawing at a time."""
        if not self._drawing.acquire(blocking=False):
            yield _line({"error": "another picture is being drawn"})
            return
        self._stop.clear()
        events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

        def work() -> None:
            with self._drawing_ends():
                try:
                    events.put(self.pictures_of(drawing, events.put))
                except StoppedError:
                    events.put({"stopped": True})
                except (ValueError, OSError) as error:
                    events.put({"error": str(error)})
                except Exception as error:
                    events.put({"error": f"{type(error).__name__}: {error}"})
                    raise

        threading.Thread(target=work, daemon=True).start()
        while not (event := events.get()).keys() & {"pictures", "error", "stopped"}:
            yield _line(event)
        yield _line(event)

    @contextmanager
    def _drawing_ends(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._drawing.release()

    def pictures_of(self, drawing: sketch.Drawing, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Draw and keep the pictures as the command does; each is shown followed by itself with the layout."""
        values, image = drawing.values, None
        checked = sketch.checked(drawing.sketch, (values.width, values.height), self.slots)
        (layout,) = checked.drawable()
        layout = layout.model_copy(update={"key": KEY})
        if drawing.image is not None:
            image = self._stored(sketch.start_picture(drawing.image))
            opened(image)
        options = argparse.Namespace(**{**vars(self.options), **values.model_dump(), "image": image})
        total = values.steps if image is None else int(values.steps * values.strength)
        done = itertools.count(1)

        def after_step() -> None:
            if self._stop.is_set():
                raise StoppedError
            tell({"step": min(next(done), total), "of": total})

        out = generate.target(options, Path(f"page-{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S-%f}"))
        written = generate.write(self.pipeline, [layout], options, out, after_step)
        pictures = [_enlarged(opened(out / line["file"])) for line in written]
        return {
            "pictures": [[_uri(picture), _uri(overlay(picture, layout))] for picture in pictures],
            "folder": str(out),
            "remarks": checked.remarks,
        }

    def _stored(self, content: bytes) -> Path:
        """A picture to start from as a file, which the record of what was drawn names."""
        path: Path = self.options.output / "begun" / hashlib.sha256(content).hexdigest()[:16]
        if not path.exists():
            with atomic.file(path) as part:
                part.write_bytes(content)
        return path

    def _answer(self, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Answer whoever has the token; what is wrong is one sentence."""

        @functools.wraps(answer)
        async def answered(request: Request) -> Response:
            sent = request.headers.get("authorization", "")
            if not secrets.compare_digest(sent.encode(), f"Bearer {self.token}".encode()):
                return JSONResponse({"error": "open the whole address that was printed, with what follows #"}, 401)
            try:
                return await answer(request)
            except (ValueError, OSError) as error:
                return JSONResponse({"error": str(error)}, 400)
            except HTTPException as error:
                return JSONResponse({"error": error.detail}, error.status_code)

        return answered


def hints(pipeline: InstanceDiffusionPipeline) -> list[str]:
    """Words that phrases may be made of, where the text encoder knows those of the miniature world alone."""
    return [*COLOURS, *TEXTURES, *SHAPES] if len(pipeline.tokenizer) < _WORLD else []


async def _body(request: Request) -> bytes:
    """What was sent; no more than is allowed is ever held."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > sketch.MAX_BYTES:
            raise HTTPException(413, f"more than {sketch.MAX_BYTES >> 20} MB were sent at once")
    return bytes(content)


def _parsed(content: bytes) -> sketch.Drawing:
    """What is to be drawn; ValueError names the field that is wrong."""
    try:
        return sketch.Drawing.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error


def _enlarged(picture: Image.Image) -> Image.Image:
    longer = max(picture.size)
    if longer >= _SIDE:
        return picture
    width, height = (round(side * _SIDE / longer) for side in picture.size)
    return picture.resize((width, height))


def _uri(picture: Image.Image) -> str:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _line(event: dict[str, Any]) -> str:
    return json.dumps(event) + "\n"
