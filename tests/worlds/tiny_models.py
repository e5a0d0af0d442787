"""The real classes with small random weights, saved as a person would have them."""

import string
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

WORDS = [
    *["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "a", "photo", "of"],
    *["circle", "square", "triangle", "red", "blue", "green", "on", "the"],
]
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def bert(folder: Path) -> hf.BertTokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return hf.BertTokenizer(vocab=str(folder / "vocab.txt"))


def grounding_dino(folder: Path) -> Path:
    return _grounding(folder, hf.GroundingDinoConfig, hf.GroundingDinoForObjectDetection)


def mm_grounding_dino(folder: Path) -> Path:
    return _grounding(folder, hf.MMGroundingDinoConfig, hf.MMGroundingDinoForObjectDetection)


def _grounding(folder: Path, config_class: Any, model_class: Any) -> Path:
    torch.manual_seed(0)
    swin = hf.SwinConfig(
        image_size=64,
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[1, 2, 2, 2],
        window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )
    text = hf.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=len(WORDS)
    )
    config = config_class(
        backbone_config=swin,
        text_config=text,
        d_model=64,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_queries=30,
        max_text_len=12,
    )
    model_class(config).save_pretrained(folder)
    eye = hf.GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 106})
    hf.GroundingDinoProcessor(eye, bert(folder)).save_pretrained(folder)
    return folder


def owlv2(folder: Path) -> Path:
    torch.manual_seed(0)
    text = {"vocab_size": 300, "max_position_embeddings": 16, "hidden_size": 32, "intermediate_size": 64}
    text |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    config = hf.Owlv2Config(text_config=text, vision_config=VISION, projection_dim=32)
    hf.Owlv2ForObjectDetection(config).save_pretrained(folder)
    letters = {letter: 3 + place for place, letter in enumerate(string.ascii_lowercase)}
    ends = {f"{letter}</w>": 29 + place for place, letter in enumerate(string.ascii_lowercase)}
    start = {"!": 0, "<|startoftext|>": 1, "<|endoftext|>": 2}  # a query that begins with token 0 counts as none
    tokenizer = hf.CLIPTokenizer(vocab={**start, **letters, **ends}, merges=[])
    hf.Owlv2Processor(hf.Owlv2ImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    torch.manual_seed(0)
    text = {**VISION, "vocab_size": 300, "max_position_embeddings": 16, "eos_token_id": 1, "bos_token_id": 0}
    config = hf.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)
    hf.CLIPModel(config).save_pretrained(folder)
    letters = {
        letter + end: 3 + 2 * place + bool(end)
        for place, letter in enumerate(map(chr, range(97, 123)))
        for end in ("", "</w>")
    }
    tokenizer = hf.CLIPTokenizer(vocab={"<|startoftext|>": 0, "<|endoftext|>": 1, **letters}, merges=[])
    eye = hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    hf.CLIPProcessor(eye, tokenizer).save_pretrained(folder)
    return folder


def blip(folder: Path) -> Path:
    torch.manual_seed(0)
    text = {
        **{
            name: value
            for name, value in VISION.items()
            if "size" not in name or name in {"hidden_size", "intermediate_size"}
        },
        "encoder_hidden_size": 32,
        "vocab_size": len(WORDS),
        "max_position_embeddings": 32,
        "projection_dim": 16,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "sep_token_id": 3,
        "pad_token_id": 0,
        "is_decoder": True,
    }
    config = hf.BlipConfig(text_config=text, vision_config=VISION, projection_dim=16, image_text_hidden_size=16)
    hf.BlipForConditionalGeneration(config).save_pretrained(folder)
    eye = hf.BlipImageProcessor(size={"height": 32, "width": 32})
    hf.BlipProcessor(eye, bert(folder)).save_pretrained(folder)
    return folder


def blip2(folder: Path) -> Path:
    torch.manual_seed(0)
    words = ["<pad>", "</s>", "<unk>", *(f"▁{word}" for word in WORDS[6:]), "▁", "<image>"]
    tokens = Tokenizer(models.Unigram([(word, -float(place)) for place, word in enumerate(words)], unk_id=2))
    tokens.pre_tokenizer = pre_tokenizers.Metaspace()
    tokens.decoder = decoders.Metaspace()
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=["<image>"],
    )
    qformer = {**VISION, "encoder_hidden_size": 32, "vocab_size": len(words)}
    t5 = {"vocab_size": len(words), "d_model": 32, "d_ff": 64, "d_kv": 16, "num_layers": 1, "num_heads": 2}
    config = hf.Blip2Config(
        vision_config=VISION,
        qformer_config={name: value for name, value in qformer.items() if name not in {"image_size", "patch_size"}},
        text_config={**t5, "decoder_start_token_id": 0, "model_type": "t5"},
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    model = hf.Blip2ForConditionalGeneration(config)
    with torch.no_grad():
        for weight in model.parameters():  # as it is made it says nothing but padding
            weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    eye = hf.BlipImageProcessor(size={"height": 32, "width": 32})
    hf.Blip2Processor(eye, tokenizer, num_query_tokens=4).save_pretrained(folder)
    return folder


def sam2(folder: Path) -> Path:
    torch.manual_seed(0)
    eye = hf.Sam2HieraDetConfig(
        hidden_size=16,
        image_size=[64, 64],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 2, 2],
        window_size_per_stage=[4, 4, 2, 2],
        global_attention_blocks=[3],
        window_positional_embedding_background_size=[4, 4],
    )
    vision = hf.Sam2VisionConfig(
        backbone_config=eye,
        backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=32,
    )
    prompts = {"hidden_size": 32, "image_size": 64, "patch_size": 16, "mask_input_channels": 4}
    decoder = {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
    config = hf.Sam2Config(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    hf.Sam2Model(config).save_pretrained(folder)
    sizes = {"size": {"height": 64, "width": 64}, "mask_size": {"height": 16, "width": 16}}
    hf.Sam2Processor(hf.Sam2ImageProcessor(**sizes), target_size=64).save_pretrained(folder)
    return folder


CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["endoftext", "im_start", "im_end", "vision_start", "vision_end", "image_pad", "video_pad"]


def qwen25_vl(folder: Path) -> Path:
    vision = {"fullatt_block_indexes": [0], "window_size": 56, "patch_size": 14}
    return _qwen(folder, hf.Qwen2_5_VLConfig, hf.Qwen2_5_VLForConditionalGeneration, hf.Qwen2_5_VLProcessor, vision)


def qwen3_vl(folder: Path) -> Path:
    vision = {"deepstack_visual_indexes": [0], "num_position_embeddings": 64, "patch_size": 16}
    return _qwen(folder, hf.Qwen3VLConfig, hf.Qwen3VLForConditionalGeneration, hf.Qwen3VLProcessor, vision)


def _qwen(folder: Path, config_class: Any, model_class: Any, processor_class: Any, vision: dict[str, Any]) -> Path:
    """A vision-language model that knows bytes."""
    torch.manual_seed(0)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [f"<|{name}|>" for name in SPECIAL]
    vocabulary = {token: number for number, token in enumerate([*letters, *names])}
    tokens = Tokenizer(models.BPE(vocabulary, []))
    tokens.pre_tokenizer, tokens.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = hf.Qwen2Tokenizer(tokenizer_object=tokens, pad_token=names[0], eos_token=names[2])
    tokenizer.add_special_tokens({"additional_special_tokens": names})
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"num_key_value_heads": 1, "head_dim": 16, "vocab_size": len(vocabulary), "max_position_embeddings": 4096}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    seeing = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": 32, **vision}
    ids = {"image_token_id": 5, "video_token_id": 6, "vision_start_token_id": 3, "vision_end_token_id": 4}
    config = config_class(
        text_config=text, vision_config=seeing, **{name: len(letters) + place for name, place in ids.items()}
    )
    model = model_class(config)
    with torch.no_grad():
        for weight in model.parameters():  # as it is made it says one thing of all pictures
            weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    side = 2 * vision["patch_size"]
    eye = hf.Qwen2VLImageProcessor(
        size={"shortest_edge": side * side, "longest_edge": 4 * side * side}, patch_size=vision["patch_size"]
    )
    processor_class(
        image_processor=eye, tokenizer=tokenizer, video_processor=hf.Qwen2VLVideoProcessor(), chat_template=CHAT
    ).save_pretrained(folder)
    return folder


def dinov2(folder: Path) -> Path:
    torch.manual_seed(0)
    config = hf.Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=2)
    hf.Dinov2Model(config).save_pretrained(folder)
    return folder
