"""Runs in LAVIS' environment: a BLIP of its own classes with random weights, and the words it looks for.

HF_HOME=FOLDER/home python small_blip.py FOLDER
"""

import json
import sys
from pathlib import Path

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "picture", "photo", "of", "red", "blue", "dot"]
SIZES = {
    "add_cross_attention": True,
    "add_type_embeddings": False,
    "encoder_width": 768,
    "hidden_size": 32,
    "initializer_range": 0.5,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "vocab_size": len(WORDS) + 2,
}


def words(cache: Path) -> None:
    """`bert-base-uncased` as the Hugging Face cache would hold it, with few words."""
    model, commit = cache / "models--bert-base-uncased", "0" * 40
    files = {"vocab.txt": "\n".join(WORDS), "tokenizer_config.json": "{}", "config.json": '{"model_type": "bert"}'}
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(commit)
    (model / "snapshots" / commit).mkdir(parents=True)
    for name, content in files.items():
        (model / "snapshots" / commit / name).write_text(content)


def main(folder: Path) -> None:
    """Write blip.yaml and what it names."""
    words(folder / "home" / "hub")
    (folder / "sizes.json").write_text(json.dumps(SIZES))
    model = {
        "arch": "blip_caption",
        "finetuned": str(folder / "blip.pth"),
        "image_size": 32,
        "med_config_path": str(folder / "sizes.json"),
        "prompt": "a picture of ",
    }
    preprocess = {"vis_processor": {"eval": {"name": "blip_image_eval", "image_size": 32}}}
    (folder / "blip.yaml").write_text(json.dumps({"model": model, "preprocess": preprocess}))  # JSON is YAML

    import torch
    from lavis.models.blip_models.blip_caption import BlipCaption
    from lavis.models.med import XBertLMHeadDecoder
    from lavis.models.vit import VisionTransformerEncoder

    torch.manual_seed(0)
    parts = (of.from_config(model) for of in (VisionTransformerEncoder, XBertLMHeadDecoder))
    torch.save({"model": BlipCaption(*parts, prompt=model["prompt"]).state_dict()}, folder / "blip.pth")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
