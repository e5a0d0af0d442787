"""Which answerer, on a command line: a folder of transformers, an address, or a worker's interpreter."""

import argparse
from pathlib import Path

from eval.answerers.answerer import DECODINGS, Answerer


def add_options(options: argparse.ArgumentParser) -> None:
    """The options of a command that asks questions."""
    add = options.add_argument
    add("--answerer", type=Path, help="a folder of a vision-language model, or the worker's weights")
    add("--answerer-address", help="an OpenAI-compatible server instead, such as http://localhost:8000/v1")
    add("--answerer-model", help="the model's name there, where the server has several")
    add("--answerer-key", metavar="VARIABLE", help="the environment variable that holds the server's key")
    add("--answerer-python", type=Path, help="the interpreter of the environment in which a worker answers")
    add("--answerer-worker", type=Path, help="the worker's script; by default MiniCPM-V's")
    add("--answerer-precision", choices=("bfloat16", "float32"), default="bfloat16")
    add("--decoding", choices=sorted(DECODINGS), default="greedy", help="how answers are chosen")
    add("--decoding-seed", type=int, default=0, help="of answers that are sampled")
    add("--answers", type=Path, default=Path("answers"), help="the folder in which answers are kept")


def load(args: argparse.Namespace) -> Answerer | None:
    """The answerer of the command line, None where none is given; ValueError where the options do not fit."""
    decoding = DECODINGS[args.decoding].model_copy(update={"seed": args.decoding_seed})
    if args.answerer_address is not None:
        if args.answerer is not None:
            raise ValueError("--answerer and --answerer-address: give one of the two")
        from eval.answerers.endpoint import Endpoint

        return Endpoint(args.answerer_address, args.answerer_model, decoding, args.answerer_key)
    if args.answerer is None:
        if args.answerer_python is not None:
            raise ValueError("--answerer-python: needs --answerer, the folder of the worker's weights")
        return None
    if args.answerer_python is not None:
        from eval.answerers import worker

        script = args.answerer_worker or worker.SCRIPT
        return worker.Worker(args.answerer_python, args.answerer, decoding, args.answerer_precision, script)
    from eval.answerers.local import LocalModel

    return LocalModel(args.answerer, decoding, args.answerer_precision)
