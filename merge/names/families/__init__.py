"""The known architectures. A LoRA that could be for several is assumed to be for the first of them."""

from __future__ import annotations

from ..model import Architecture
from .ace_step import ACE_STEP, ACE_STEP_15, ACE_STEP_15_XL
from .auraflow import AURAFLOW
from .cogvideox import COGVIDEOX_2B, COGVIDEOX_5B
from .cosmos import ANIMA, COSMOS_7B, COSMOS_14B, PREDICT2_14B
from .ernie_image import ERNIE_IMAGE
from .flux import CHROMA, FLUX, FLUX2, KLEIN_4B, KLEIN_9B
from .hidream import HIDREAM_I1, HIDREAM_O1
from .hunyuan3d import HUNYUAN3D, HUNYUAN3D_21, HUNYUAN3D_MINI
from .hunyuan_dit import HUNYUAN_DIT
from .hunyuan_video import HUNYUAN_IMAGE, HUNYUAN_IMAGE_REFINER, HUNYUAN_VIDEO, HUNYUAN_VIDEO_15
from .ideogram4 import IDEOGRAM4
from .joy_image import JOY_IMAGE
from .kandinsky5 import KANDINSKY5_IMAGE, KANDINSKY5_LITE, KANDINSKY5_PRO
from .krea2 import KREA2
from .lens import LENS
from .longcat_image import LONGCAT_IMAGE
from .ltx import LTX, LTX2, LTX_13B
from .lumina import LUMINA2, NEWBIE, Z_IMAGE
from .minimax import MINIMAX_H3, MINIMAX_MUSIC_3
from .mochi import MOCHI
from .omnigen2 import BOOGU, OMNIGEN2
from .ovis_image import OVIS_IMAGE
from .pixart import PIXART
from .pixeldit import PID, PIXELDIT
from .qwen_image import MAGE_FLOW, QWEN_IMAGE
from .sd3 import SD3, SD35_LARGE
from .seedvr2 import SEEDVR2_3B, SEEDVR2_7B
from .stable_audio import STABLE_AUDIO, STABLE_AUDIO_3
from .stable_cascade import CASCADE_B, CASCADE_B_LITE, CASCADE_C, CASCADE_C_LITE
from .svd import SVD
from .triposplat import TRIPOSPLAT
from .unet import KOALA, KOALA_700M, SD2, SD15, SD_UPSCALER, SDXL, SDXL_REFINER
from .wan import WAN_1_3B, WAN_5B, WAN_14B

ARCHITECTURES: tuple[Architecture, ...] = (
    SD15,
    SD2,
    SDXL,
    SDXL_REFINER,
    KOALA,
    KOALA_700M,
    SD_UPSCALER,
    SVD,
    SD3,
    SD35_LARGE,
    FLUX,
    CHROMA,
    FLUX2,
    KLEIN_4B,
    KLEIN_9B,
    LONGCAT_IMAGE,
    OVIS_IMAGE,
    QWEN_IMAGE,
    MAGE_FLOW,
    WAN_14B,
    WAN_1_3B,
    WAN_5B,
    HUNYUAN_VIDEO,
    HUNYUAN_VIDEO_15,
    HUNYUAN_IMAGE,
    HUNYUAN_IMAGE_REFINER,
    Z_IMAGE,
    LUMINA2,
    NEWBIE,
    LTX,
    LTX_13B,
    LTX2,
    PIXART,
    AURAFLOW,
    HUNYUAN_DIT,
    KREA2,
    OMNIGEN2,
    BOOGU,
    HIDREAM_I1,
    HIDREAM_O1,
    ERNIE_IMAGE,
    IDEOGRAM4,
    JOY_IMAGE,
    LENS,
    KANDINSKY5_LITE,
    KANDINSKY5_PRO,
    KANDINSKY5_IMAGE,
    CASCADE_C,
    CASCADE_C_LITE,
    CASCADE_B,
    CASCADE_B_LITE,
    PIXELDIT,
    PID,
    COSMOS_7B,
    COSMOS_14B,
    ANIMA,
    PREDICT2_14B,
    MOCHI,
    COGVIDEOX_2B,
    COGVIDEOX_5B,
    MINIMAX_H3,
    SEEDVR2_3B,
    SEEDVR2_7B,
    ACE_STEP,
    ACE_STEP_15,
    ACE_STEP_15_XL,
    STABLE_AUDIO,
    STABLE_AUDIO_3,
    MINIMAX_MUSIC_3,
    HUNYUAN3D,
    HUNYUAN3D_MINI,
    HUNYUAN3D_21,
    TRIPOSPLAT,
)
