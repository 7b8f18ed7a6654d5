"""The architectures that are known. Where a LoRA could be of several, the first of them is named first."""

from __future__ import annotations

from ..model import Architecture
from .auraflow import AURAFLOW
from .flux import CHROMA, FLUX, FLUX2, KLEIN_4B, KLEIN_9B
from .hunyuan_dit import HUNYUAN_DIT
from .krea2 import KREA2
from .longcat_image import LONGCAT_IMAGE
from .hunyuan_video import HUNYUAN_IMAGE, HUNYUAN_IMAGE_REFINER, HUNYUAN_VIDEO, HUNYUAN_VIDEO_15
from .ltx import LTX, LTX2, LTX_13B
from .lumina import LUMINA2, Z_IMAGE
from .omnigen2 import BOOGU, OMNIGEN2
from .ovis_image import OVIS_IMAGE
from .pixart import PIXART
from .qwen_image import MAGE_FLOW, QWEN_IMAGE
from .sd3 import SD3, SD35_LARGE
from .unet import KOALA, SD2, SD15, SDXL, SDXL_REFINER
from .wan import WAN_1_3B, WAN_5B, WAN_14B

ARCHITECTURES: tuple[Architecture, ...] = (
    SD15,
    SD2,
    SDXL,
    SDXL_REFINER,
    KOALA,
    SD3,
    SD35_LARGE,
    FLUX,
    CHROMA,
    FLUX2,
    KLEIN_4B,
    KLEIN_9B,
    QWEN_IMAGE,
    WAN_14B,
    WAN_1_3B,
    WAN_5B,
    HUNYUAN_VIDEO,
    HUNYUAN_VIDEO_15,
    HUNYUAN_IMAGE,
    HUNYUAN_IMAGE_REFINER,
    Z_IMAGE,
    LUMINA2,
    LTX,
    LTX_13B,
    LTX2,
    PIXART,
    AURAFLOW,
    HUNYUAN_DIT,
    KREA2,
    LONGCAT_IMAGE,
    OVIS_IMAGE,
    OMNIGEN2,
    BOOGU,
    MAGE_FLOW,
)
