"""`make paper` at true size with random weights: `python bench/full_paper.py FOLDER [STEPS [VALUES]]`.

Writes into FOLDER a COCO sample of 20 pictures and, in the released forms and in half precision, Stable Diffusion 1.5's
networks, the instance layers, CLIP ViT-L/14 and YOLOv8m-seg; runs the command on two pictures with STEPS steps (2) and
other VALUES, such as `device.precision=bfloat16`; prints the seconds of each stage and the greatest memory of any.
Needs 20 GB of disk.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from instdiff.checkpoints import official
from instdiff.model.unet import InstanceUNet

ROOT = Path(__file__).parents[1]
WORDS = ROOT / "weights" / "miniature" / "clip" / "text"
NUM_PICTURES, SIDE = 20, 512
CATEGORIES = ("person", "dog", "wine glass")


def coco(folder: Path) -> None:
    """Pictures of boxes, with captions, as COCO's archives unpack."""
    rng = np.random.default_rng(0)
    images, annotations, captions = [], [], []
    for name in ("val2017", "annotations"):
        (folder / name).mkdir(parents=True)
    for number in range(1, NUM_PICTURES + 1):
        image = {"id": number, "file_name": f"{number:012d}.jpg", "width": SIDE, "height": SIDE}
        pixels = rng.integers(100, 130, (SIDE, SIDE, 3)).astype(np.uint8)
        for _ in range(int(rng.integers(1, 5))):
            x, y = (int(edge) for edge in rng.integers(0, SIDE // 2, 2))
            w, h = (int(edge) for edge in rng.integers(SIDE // 8, SIDE // 2, 2))
            pixels[y : y + h, x : x + w] = rng.integers(0, 256, 3)
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            own = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": int(rng.integers(len(CATEGORIES))) + 1,
            }
            annotations.append({**own, "bbox": [x, y, w, h], "segmentation": [corners], "area": w * h, "iscrowd": 0})
        Image.fromarray(pixels).save(folder / "val2017" / image["file_name"])
        images.append(image)
        captions.append({"id": number, "image_id": number, "caption": "A view."})
    categories = [{"id": place, "name": name} for place, name in enumerate(CATEGORIES, start=1)]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    for name, content in (("instances", whole), ("captions", {"images": images, "annotations": captions})):
        (folder / "annotations" / f"{name}_val2017.json").write_text(json.dumps(content))


def weights(folder: Path) -> None:
    """Every published file but Inception's."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16)
    base = folder / "stable-diffusion-v1-5"
    words = CLIPTokenizer.from_pretrained(WORDS)
    words.save_pretrained(base / "tokenizer")
    CLIPTextModel(CLIPTextConfig(**official.SD15_TEXT)).save_pretrained(base / "text_encoder")
    AutoencoderKL(**official.SD15_VAE).save_pretrained(base / "vae")
    unet = UNet2DConditionModel(**official.SD15_UNET)
    unet.save_pretrained(base / "unet")
    (base / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    whole = InstanceUNet.from_base(unet, official.OFFICIAL_UNIFUSION, scale_u=True)
    torch.save({"model": official.official(whole)}, folder / "instancediffusion_sd15.pth")
    del unet, whole
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    seen = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    judge = CLIPConfig(text_config=text, vision_config={**seen, "patch_size": 14}, projection_dim=768)
    CLIPModel(judge).save_pretrained(folder / "CLIP-ViT-L-14-laion2B-s32B-b82K")
    words.save_pretrained(folder / "CLIP-ViT-L-14-laion2B-s32B-b82K")
    torch.set_default_dtype(torch.float32)
    from ultralytics.nn.tasks import SegmentationModel

    model = SegmentationModel("yolov8m-seg.yaml", nc=len(CATEGORIES), verbose=False)
    model.names = dict(enumerate(CATEGORIES))
    torch.save({"model": model.half(), "ema": None, "train_args": {"task": "segment"}}, folder / "yolov8m-seg.pt")


def main(folder: Path, steps: str = "2", *values: str) -> None:
    """Make what is not there, run the command, and print what it took."""
    if not folder.is_dir():
        coco(folder / "coco")
        (folder / "weights").mkdir()
        weights(folder / "weights")
    few = ["self_test.expected={box_ap:0.5,mask_ap:0.5}", "self_test.within=1.0", f"generate.steps={steps}"]
    few += ["score.sets.features=judge", "score.sets.kid_subset_size=2", "generate.batch_size=2"]
    words = [
        "--coco",
        str(folder / "coco"),
        "--weights",
        str(folder / "weights"),
        "--subset",
        "2",
        "--out",
        "full-size",
    ]
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "flows.paper", *words, *few, *values], check=True)
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    for stage, seconds in json.loads(Path("full-size/seconds.json").read_text()).items():
        print(f"{stage}: {seconds:.0f} s")
    print(f"{time.perf_counter() - began:.0f} s in all, greatest memory of a process {memory:.1f} GB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
