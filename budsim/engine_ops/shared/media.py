"""How many images, videos and sounds one request may hold, as engines are told it."""

from __future__ import annotations

from budsim.model_ops.architecture import Architecture
from budsim.model_ops.media import Media


def most_items(architecture: Architecture, media: Media) -> dict[str, int]:
    """Return the items of each kind a request may hold, of all kinds the model reads.

    What no request holds is 0, because engines otherwise keep memory for it.
    """
    asked = {
        "image": media.images,
        "video": int(media.video_frames > 0),
        "audio": int(media.audio_s > 0),
    }
    return {kind: asked[kind] for kind in architecture.encoders.modalities}
