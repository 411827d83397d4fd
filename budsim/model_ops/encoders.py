"""Towers that encode images and audio: what they read, what it becomes, and its arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.model_ops.config_reader import MAX_HIDDEN, MAX_LAYERS, MAX_WIDTH, ConfigReader
from budsim.model_ops.image_tokens import (
    EncodedItem,
    FixedImage,
    ImageRule,
    MergedPatches,
    PatchRows,
    PooledPatches,
    Tiles,
    VideoRule,
)
from budsim.model_ops.media import Media
from budsim.model_ops.vision import AUDIO_PARAMETERS, tower_sizes_of_qwen2

# Qwen2.5-VL attends to windows of this many pixels squared but in a few layers (its config:
# window_size 112, fullatt_block_indexes of 4 layers of 32).
QWEN2_5_WINDOW_PIXELS: Final = 112
QWEN2_5_WHOLE_LAYERS: Final = 4

# preprocessor_config.json of Qwen2-VL and Qwen2.5-VL: 3,136 to 12,845,056 pixels, 4 to 16,384
# tokens.
QWEN2_PIXELS: Final = (3_136, 12_845_056)
# preprocessor_config.json of Qwen3-VL and Qwen3.5: 65,536 to 16,777,216 pixels, 64 to 16,384
# tokens; video_preprocessor_config.json: 25,165,824 pixels of all frames together.
QWEN3_PIXELS: Final = (65_536, 16_777_216)
QWEN3_VIDEO_PIXELS: Final = 25_165_824

# Gemma 3: 4 x 4 patches are pooled (mm_tokens_per_image 256 of 64 x 64 patches); two line breaks
# and begin and end of the image around them (transformers Gemma3Processor).
GEMMA3_TOKENS: Final = 256
GEMMA3_MARKS: Final = 4

# Gemma 4: pools 3 x 3 patches; 280 tokens an image unless asked otherwise, 70 a frame with 8 around
# them (ai.google.dev/gemma/docs/capabilities/vision; vLLM 0.32 models/gemma4_mm.py).
GEMMA4_POOL: Final = 3
GEMMA4_TOKENS: Final = 280
GEMMA4_FRAME_TOKENS: Final = 70
GEMMA4_FRAME_MARKS: Final = 8
# Gemma 4 E2B and E4B hear 25 tokens a second, at most 30 s (ai.google.dev/gemma/docs/capabilities/
# audio; processor_config.json: audio_ms_per_token 40, audio_seq_length 750).
GEMMA4_AUDIO_TOKENS_PER_S: Final = 25.0
GEMMA4_AUDIO_S: Final = 30.0

# Llama 4: at most 16 tiles; a quarter of a tile's patches are left after the pixel shuffle
# (transformers image_processing_llama4_fast.py, max_patches; config: pixel_shuffle_ratio 0.5).
LLAMA4_TILES: Final = 16
LLAMA4_SHUFFLE: Final = 4

# Mistral 3: longest side of an image (preprocessor_config.json: longest_edge 1540).
PIXTRAL_LONGEST: Final = 1_540
PIXTRAL_MERGE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """A transformer over patches of images, or over frames of audio.

    Attributes
    ----------
    layers, hidden, width : int
        Blocks, and the sizes of their residual and of their feed-forward part.
    block_parameters : int
        Weights of one block, each multiplied with every patch.
    projector_parameters : int
        Weights that are multiplied with every token handed over.
    window : int
        Patches a patch attends to in windowed layers; 0: no layer is windowed.
    whole_layers : int
        Layers that attend to all patches of an image where others are windowed.
    outputs : int
        Hidden vectors of the language model kept for each token: one, and one for each layer that
        is fed again (Qwen3-VL's DeepStack).
    """

    layers: int
    hidden: int
    width: int
    block_parameters: int
    projector_parameters: int
    window: int = 0
    whole_layers: int = 0
    outputs: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoders:
    """What a model reads besides text.

    ``image`` and ``video`` are None where the model, or this program, has no rule for them;
    ``audio_tokens_per_s`` is 0 where it hears nothing. ``modalities`` names all that the model
    itself takes, as engines name them.
    """

    modalities: tuple[str, ...] = ()
    tower: Tower | None = None
    image: ImageRule | None = None
    video: VideoRule | None = None
    audio_tower: Tower | None = None
    audio_tokens_per_s: float = 0.0
    longest_audio_s: float = 0.0


TEXT: Final = Encoders()


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderWork:
    """What the towers do for one request.

    Attributes
    ----------
    prompt_tokens : int
        Tokens its items take in the prompt.
    largest_item : int
        Embeddings of the largest item.
    linear_flops, attention_flops : float
        FLOPs of products with weights, and of attention.
    weight_bytes : float
        Weights the towers read, at 16 bit.
    layers : int
        Blocks of the towers that run.
    patches : int
        Positions that pass through them.
    hidden : int
        Their residual's size.
    """

    prompt_tokens: int = 0
    largest_item: int = 0
    linear_flops: float = 0.0
    attention_flops: float = 0.0
    weight_bytes: float = 0.0
    layers: int = 0
    patches: int = 0
    hidden: int = 0


@dataclass(slots=True)
class _Sum:
    """Work of several items, added up."""

    items: list[tuple[Tower, EncodedItem, int]] = field(default_factory=list)

    def work(self) -> EncoderWork:
        towers = {id(tower): tower for tower, _, _ in self.items}.values()
        return EncoderWork(
            prompt_tokens=sum(count * item.prompt_tokens for _, item, count in self.items),
            largest_item=max((item.tokens for _, item, _ in self.items), default=0),
            linear_flops=sum(count * _linear_flops(t, item) for t, item, count in self.items),
            attention_flops=sum(count * _attention_flops(t, item) for t, item, count in self.items),
            weight_bytes=2.0 * sum(t.layers * t.block_parameters for t in towers),
            layers=sum(tower.layers for tower in towers),
            patches=sum(count * item.patches for _, item, count in self.items),
            hidden=max((tower.hidden for tower in towers), default=0),
        )


def encoder_work(encoders: Encoders, media: Media, model_id: str) -> EncoderWork:
    """Return what a model's towers do for the items of one request.

    Raises
    ------
    InvalidInput
        The model does not read one of them, or its rule is not known here; the field is named.
    """
    found = _Sum()
    tower = encoders.tower
    if media.images:
        if tower is None or encoders.image is None:
            raise _unreadable("images_per_request", model_id)
        item = encoders.image.image(media.width, media.height)
        found.items.append((tower, item, media.images))
    if media.video_frames:
        if tower is None or encoders.video is None:
            raise _unreadable("video_frames", model_id)
        item = encoders.video.video(media.video_frames, media.width, media.height)
        found.items.append((tower, item, 1))
    if media.audio_s:
        if encoders.audio_tower is None:
            raise _unreadable("audio_seconds", model_id)
        found.items.append((encoders.audio_tower, _sound(encoders, media.audio_s), 1))
    return found.work()


def _unreadable(field: str, model_id: str) -> InvalidInput:
    problem = f"{model_id} takes none, or how it encodes them is not modelled"
    return InvalidInput(field, problem, "0, or a model that docs/how-to/images-and-audio.md lists")


def _sound(encoders: Encoders, seconds: float) -> EncodedItem:
    if seconds > encoders.longest_audio_s:
        raise InvalidInput(
            "audio_seconds", f"is {seconds:g}", f"at most {encoders.longest_audio_s:g} s"
        )
    tokens = max(round(seconds * encoders.audio_tokens_per_s), 1)
    return EncodedItem(tokens=tokens, marks=2, patches=tokens, span=tokens)


def _linear_flops(tower: Tower, item: EncodedItem) -> float:
    blocks = float(tower.layers * tower.block_parameters * item.patches)
    return 2.0 * (blocks + tower.projector_parameters * item.tokens)


def _attention_flops(tower: Tower, item: EncodedItem) -> float:
    """Return the FLOPs of scores and sums: 4 x hidden for each pair of patches and layer."""
    windowed = tower.layers - tower.whole_layers if tower.window else 0
    near = min(tower.window, item.span) * windowed
    whole = item.span * (tower.layers - windowed)
    return 4.0 * tower.hidden * item.patches * (near + whole)


def encoders_of(config: ConfigReader, text_hidden: int) -> Encoders:
    """Return what a whole config.json says of images and audio."""
    tower = config.nested("vision_config")
    if tower is None:
        return TEXT
    read = _READERS.get(config.text("model_type"))
    return read(config, tower, text_hidden) if read else Encoders(modalities=("image",))


def _block(hidden: int, width: int, *, gated: bool) -> int:
    """Return the weights of four projections and a feed-forward part."""
    return 4 * hidden * hidden + (3 if gated else 2) * hidden * width


def _sizes(tower: ConfigReader, layers: str) -> tuple[int, int, int]:
    return (
        tower.integer("hidden_size", high=MAX_HIDDEN),
        tower.integer("intermediate_size", high=MAX_WIDTH),
        tower.integer(layers, high=MAX_LAYERS),
    )


def _merged(tower: ConfigReader, least: int, most: int, video: int = 0) -> MergedPatches:
    return MergedPatches(
        patch=tower.integer("patch_size", high=MAX_HIDDEN),
        merge=tower.integer("spatial_merge_size", high=64),
        frames=tower.integer("temporal_patch_size", high=MAX_HIDDEN),
        least_pixels=least,
        most_pixels=most,
        most_video_pixels=video,
    )


def _qwen2(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    hidden, width = tower_sizes_of_qwen2(tower)
    rule = _merged(tower, *QWEN2_PIXELS)
    merged = hidden * rule.merge**2
    found = Tower(
        layers=tower.integer("depth", high=MAX_LAYERS),
        hidden=hidden,
        width=width,
        block_parameters=_block(hidden, width, gated=False),
        projector_parameters=merged * (merged + text_hidden),
    )
    return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)


def _qwen2_5(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    hidden, width, layers = _sizes(tower, "depth")
    rule = _merged(tower, *QWEN2_PIXELS)
    merged = hidden * rule.merge**2
    found = Tower(
        layers=layers,
        hidden=hidden,
        width=width,
        block_parameters=_block(hidden, width, gated=True),
        projector_parameters=merged * (merged + text_hidden),
        window=(QWEN2_5_WINDOW_PIXELS // rule.patch) ** 2,
        whole_layers=QWEN2_5_WHOLE_LAYERS,
    )
    return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)


def _qwen3(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    hidden, width, layers = _sizes(tower, "depth")
    rule = _merged(tower, *QWEN3_PIXELS, QWEN3_VIDEO_PIXELS)
    merged = hidden * rule.merge**2
    _, again = tower.raw("deepstack_visual_indexes")
    outputs = 1 + (len(again) if isinstance(again, list | tuple) else 0)
    found = Tower(
        layers=layers,
        hidden=hidden,
        width=width,
        block_parameters=_block(hidden, width, gated=False),
        projector_parameters=outputs * merged * (merged + text_hidden),
        outputs=outputs,
    )
    return Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)


def _gemma3(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    hidden, width, layers = _sizes(tower, "num_hidden_layers")
    side = tower.integer("image_size", high=MAX_HIDDEN) // tower.integer(
        "patch_size", high=MAX_HIDDEN
    )
    tokens = config.integer("mm_tokens_per_image", high=MAX_WIDTH, default=GEMMA3_TOKENS)
    found = Tower(
        layers=layers,
        hidden=hidden,
        width=width,
        block_parameters=_block(hidden, width, gated=False),
        projector_parameters=hidden * text_hidden,
    )
    rule = FixedImage(tokens=tokens, patches=side**2, marks=GEMMA3_MARKS)
    return Encoders(modalities=("image",), tower=found, image=rule)


def _gemma4(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    hidden, width, layers = _sizes(tower, "num_hidden_layers")
    found = Tower(
        layers=layers,
        hidden=hidden,
        width=width,
        block_parameters=_block(hidden, width, gated=True),
        projector_parameters=hidden * text_hidden,
    )
    rule = PooledPatches(
        patch=tower.integer("patch_size", high=MAX_HIDDEN),
        pool=tower.integer("pooling_kernel_size", high=64, default=GEMMA4_POOL),
        budget=config.integer(
            "vision_soft_tokens_per_image", high=MAX_WIDTH, default=GEMMA4_TOKENS
        ),
        frame_budget=GEMMA4_FRAME_TOKENS,
        frame_marks=GEMMA4_FRAME_MARKS,
    )
    seen = Encoders(modalities=("image", "video"), tower=found, image=rule, video=rule)
    if config.nested("audio_config") is None:
        return seen
    return Encoders(
        modalities=("image", "video", "audio"),
        tower=found,
        image=rule,
        video=rule,
        audio_tower=GEMMA4_AUDIO,
        audio_tokens_per_s=GEMMA4_AUDIO_TOKENS_PER_S,
        longest_audio_s=GEMMA4_AUDIO_S,
    )


def _llama4(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:  # noqa: ARG001
    hidden, width, layers = _sizes(tower, "num_hidden_layers")
    side = tower.integer("image_size", high=MAX_HIDDEN)
    patches = (side // tower.integer("patch_size", high=MAX_HIDDEN)) ** 2
    inner = tower.integer("projector_input_dim", high=MAX_HIDDEN)
    found = Tower(
        layers=layers,
        hidden=hidden,
        width=width,
        block_parameters=_block(hidden, width, gated=False),
        projector_parameters=inner * (width + inner + text_hidden),
    )
    rule = Tiles(
        side=side,
        tile_tokens=patches // LLAMA4_SHUFFLE,
        # One position more: the class token.
        tile_patches=patches + 1,
        most_tiles=LLAMA4_TILES,
    )
    return Encoders(modalities=("image",), tower=found, image=rule)


def _mistral3(config: ConfigReader, tower: ConfigReader, text_hidden: int) -> Encoders:
    hidden, width, layers = _sizes(tower, "num_hidden_layers")
    merge = config.integer("spatial_merge_size", high=64, default=PIXTRAL_MERGE)
    found = Tower(
        layers=layers,
        hidden=hidden,
        width=width,
        block_parameters=_block(hidden, width, gated=True),
        projector_parameters=4 * hidden * hidden + (hidden + text_hidden) * text_hidden,
    )
    rule = PatchRows(
        patch=tower.integer("patch_size", high=MAX_HIDDEN),
        merge=merge,
        longest=tower.integer("image_size", high=MAX_HIDDEN, default=PIXTRAL_LONGEST),
    )
    return Encoders(modalities=("image",), tower=found, image=rule)


# Gemma 4's conformer of 12 blocks (config: gemma4_audio, hidden size 1,024), of which the card
# states the weights only.
GEMMA4_AUDIO: Final = Tower(
    layers=12,
    hidden=1_024,
    width=4_096,
    block_parameters=AUDIO_PARAMETERS // 12,
    projector_parameters=0,
)

_READERS: Final[Mapping[str, Callable[[ConfigReader, ConfigReader, int], Encoders]]] = {
    "gemma3": _gemma3,
    "gemma4": _gemma4,
    "llama4": _llama4,
    "mistral3": _mistral3,
    "qwen2_vl": _qwen2,
    "qwen2_5_vl": _qwen2_5,
    "hyperclovax_vision_v2": _qwen2_5,
    "vlm": _qwen2_5,
    "qwen3_vl": _qwen3,
    "qwen3_vl_moe": _qwen3,
    "qwen3_5": _qwen3,
    "qwen3_5_moe": _qwen3,
}
