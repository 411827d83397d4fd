"""Towers that encode images and audio: what they read, what it becomes, and its arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from budsim.commons.errors import InvalidInput
from budsim.model_ops.image_crops import (
    LargeTiles,
    LongestEdgeTiles,
    OverlappedCrops,
    PaddedTiles,
    PinpointTiles,
    Slices,
)
from budsim.model_ops.image_tiles import GlobalTiles, RatioTiles, Tiles, WindowTiles
from budsim.model_ops.image_tokens import (
    BudgetedRows,
    ClosestGrid,
    EncodedItem,
    FixedImage,
    MergedPatches,
    PaddedPatches,
    PatchRows,
    PooledPatches,
    ShuffledPatches,
)
from budsim.model_ops.media import Media
from budsim.model_ops.sounds import AudioRule

ImageRule = (
    BudgetedRows
    | ClosestGrid
    | FixedImage
    | GlobalTiles
    | LargeTiles
    | LongestEdgeTiles
    | MergedPatches
    | OverlappedCrops
    | PaddedPatches
    | PaddedTiles
    | PatchRows
    | PinpointTiles
    | PooledPatches
    | RatioTiles
    | ShuffledPatches
    | Slices
    | Tiles
    | WindowTiles
)
VideoRule = (
    ClosestGrid
    | MergedPatches
    | OverlappedCrops
    | PinpointTiles
    | PooledPatches
    | RatioTiles
    | ShuffledPatches
    | Slices
)


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
    attention : int
        Width of all heads together, where it is not that of the residual.
    outputs : int
        Hidden vectors of the language model kept for each token: one, and one for each layer that
        is fed again (Qwen3-VL's DeepStack).
    stem_parameters : int
        Weights that make patches of pixels and tell positions, where they are counted by the tower.
    stem_flops : float
        FLOPs of convolutions before the blocks for each position, where they are not small.
    """

    layers: int
    hidden: int
    width: int
    block_parameters: int
    projector_parameters: int
    window: int = 0
    whole_layers: int = 0
    outputs: int = 1
    attention: int = 0
    stem_parameters: int = 0
    stem_flops: float = 0.0

    @property
    def parameters(self) -> int:
        """All its weights that are multiplied, and its stem."""
        blocks = self.layers * self.block_parameters
        return blocks + self.projector_parameters + self.stem_parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoders:
    """What a model reads besides text.

    ``image``, ``video`` and ``audio`` are None where the model, or this program, has no rule for
    them. ``modalities`` names all that the model itself takes, as engines name them.
    """

    modalities: tuple[str, ...] = ()
    tower: Tower | None = None
    image: ImageRule | None = None
    video: VideoRule | None = None
    audio_tower: Tower | None = None
    audio: AudioRule | None = None

    @property
    def parameters(self) -> int:
        """Weights of the towers' blocks and projectors, which no token of text meets."""
        return sum(each.parameters for each in (self.tower, self.audio_tower) if each)


TEXT: Final = Encoders()

# What a block reads and writes beside its products, for each patch: two norms (2 x 2), two sums
# (2 x 3), queries, keys and values taken apart (6), turned (4) and put together again (2), and
# heads joined (4); its activation function reads and writes the wide vector. Our count of vLLM
# 0.32's blocks of Qwen3-VL, which run one kernel after the other.
HIDDEN_PASSES: Final = 26
WIDTH_PASSES: Final = 2


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
    touched_bytes : float
        What norms, sums and activation functions read and write, at 16 bit.
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
    touched_bytes: float = 0.0
    layers: int = 0
    patches: int = 0
    hidden: int = 0


def encoder_work(encoders: Encoders, media: Media, model_id: str) -> EncoderWork:
    """Return what a model's towers do for the items of one request.

    Raises
    ------
    InvalidInput
        The model does not read one of them, or its rule is not known here; the field is named.
    """
    items: list[tuple[Tower, EncodedItem, int]] = []
    tower = encoders.tower
    if media.images:
        if tower is None or encoders.image is None:
            raise _unreadable("images_per_request", model_id)
        item = encoders.image.image(media.width, media.height)
        items.append((tower, item, media.images))
    if media.video_frames:
        if tower is None or encoders.video is None:
            raise _unreadable("video_frames", model_id)
        item = encoders.video.video(media.video_frames, media.width, media.height)
        items.append((tower, item, 1))
    if media.audio_s:
        if encoders.audio_tower is None or encoders.audio is None:
            raise _unreadable("audio_seconds", model_id)
        items.append((encoders.audio_tower, encoders.audio.sound(media.audio_s), 1))
    return _work(items)


def _work(items: Sequence[tuple[Tower, EncodedItem, int]]) -> EncoderWork:
    """Return the work of all items together, each with its tower and how often it comes."""

    def total(work: Callable[[Tower, EncodedItem], float]) -> float:
        """Return the sum of one kind of work over all items."""
        return sum(count * work(tower, item) for tower, item, count in items)

    towers = {id(tower): tower for tower, _, _ in items}.values()
    return EncoderWork(
        prompt_tokens=sum(count * item.prompt_tokens for _, item, count in items),
        largest_item=max((item.tokens for _, item, _ in items), default=0),
        linear_flops=total(_linear_flops),
        attention_flops=total(_attention_flops),
        weight_bytes=2.0 * sum(tower.layers * tower.block_parameters for tower in towers),
        touched_bytes=total(_touched_bytes),
        layers=sum(tower.layers for tower in towers),
        patches=sum(count * item.patches for _, item, count in items),
        hidden=max((tower.hidden for tower in towers), default=0),
    )


def _unreadable(field: str, model_id: str) -> InvalidInput:
    problem = f"{model_id} takes none, or how it encodes them is not modelled"
    return InvalidInput(field, problem, "0, or a model that docs/how-to/images-and-audio.md lists")


def _linear_flops(tower: Tower, item: EncodedItem) -> float:
    blocks = float(tower.layers * tower.block_parameters * item.patches)
    stem = tower.stem_flops * item.patches
    return 2.0 * (blocks + tower.projector_parameters * item.tokens) + stem


def _attention_flops(tower: Tower, item: EncodedItem) -> float:
    """Return the FLOPs of scores and sums: 4 x hidden for each pair of patches and layer."""
    windowed = tower.layers - tower.whole_layers if tower.window else 0
    near = min(tower.window, item.span) * windowed
    whole = item.span * (tower.layers - windowed)
    return 4.0 * (tower.attention or tower.hidden) * item.patches * (near + whole)


def _touched_bytes(tower: Tower, item: EncodedItem) -> float:
    values = HIDDEN_PASSES * tower.hidden + WIDTH_PASSES * tower.width
    return 2.0 * tower.layers * item.patches * values
