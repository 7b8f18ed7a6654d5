"""The names of the base models in other programs, for the metadata of saved files.

There is a row for each architecture (see names/) or family; those without one are in UNNAMED, with the reason. The
names are the ones that trainers write and other programs read:

- sd-scripts: `ss_v2` and `ss_base_model_version` (train_network.py), `modelspec.*` (library/sai_model_spec.py)
- musubi-tuner: `ss_base_model_version` (dataset/architectures.py), `modelspec.*` (utils/sai_model_spec.py)
- for models that neither of them trains: ai-toolkit (get_base_model_version), SwarmUI (T2IModelClassSorter)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..names import Architecture

# A1111 and Forge recognise SD 2 and SDXL by these two and take everything else for SD 1.
V2 = "ss_v2"
VERSION = "ss_base_model_version"
SPEC = "modelspec."


@dataclass(frozen=True)
class Base:
    """The names of a base model; None if no program has one."""

    version: str | None
    architecture: str | None
    implementation: str | None
    resolution: str | None
    v2: bool = False

    def metadata(self) -> dict[str, str]:
        """The known names, as metadata of a LoRA."""
        known = {
            V2: str(self.v2),
            VERSION: self.version,
            SPEC + "architecture": None if self.architecture is None else f"{self.architecture}/lora",
            SPEC + "implementation": self.implementation,
            SPEC + "resolution": self.resolution,
        }
        return {key: value for key, value in known.items() if value is not None}


_STABILITY = "https://github.com/Stability-AI/generative-models"
_FLUX, _FLUX_2 = "https://github.com/black-forest-labs/flux", "https://github.com/black-forest-labs/flux2"

# By architecture or family.
BASES: dict[str, Base] = {
    "SD 1.5": Base("sd_v1", "stable-diffusion-v1", "diffusers", "512x512"),
    # the 512 and the 768 pixel models can't be told apart; the latter is more widely used
    "SD 2": Base("sd_v2", "stable-diffusion-v2-768-v", "diffusers", "768x768", v2=True),
    "SDXL": Base("sdxl_base_v1-0", "stable-diffusion-xl-v1-base", _STABILITY, "1024x1024"),
    "SD 3": Base(None, "stable-diffusion-3-m", "diffusers", "1024x1024"),
    "SD 3.5 Large": Base("5-large", "stable-diffusion-3-5-large", "diffusers", "1024x1024"),
    "Flux": Base("flux1", "flux-1", _FLUX, "1024x1024"),
    "Chroma": Base("chroma", "chroma", "https://huggingface.co/lodestones/Chroma", "1024x1024"),
    "Flux 2": Base("flux_2_dev", "Flux.2-dev", _FLUX_2, "1024x1024"),
    "Flux 2 Klein 4B": Base("flux_2_klein_4b", "Flux.2-klein-4b", _FLUX_2, "1024x1024"),
    "Flux 2 Klein 9B": Base("flux_2_klein_9b", "Flux.2-klein-9b", _FLUX_2, "1024x1024"),
    "Lumina 2": Base("lumina2", "lumina-2", "https://github.com/Alpha-VLLM/Lumina-Image-2.0", "1024x1024"),
    "Z-Image": Base("z_image", "Z-Image", "https://github.com/Tongyi-MAI/Z-Image", "1024x1024"),
    "Qwen-Image": Base("qwen_image", "Qwen-Image", "https://github.com/QwenLM/Qwen-Image", "1328x1328"),
    "Wan": Base("wan", "wan2.1", "https://github.com/Wan-Video/Wan2.1", "1280x720"),
    "HunyuanVideo": Base("hunyuan_video", "hunyuan-video", "https://github.com/Tencent/HunyuanVideo", "1280x720"),
    "HunyuanVideo 1.5": Base(
        "hunyuan_video_1_5", "hunyuan-video-1.5", "https://github.com/Tencent-Hunyuan/HunyuanVideo-1.5", "1280x720"
    ),
    "HunyuanImage 2.1": Base("hunyuan-image-2.1", "hunyuan-image-2.1", "diffusers", "2048x2048"),
    "LTX-Video": Base(None, "lightricks-ltx-video", "https://github.com/Lightricks/LTX-Video", "768x512"),
    "LTX 2": Base("ltx2", "lightricks-ltx-video-2", "https://github.com/Lightricks/LTX-2", "1280x720"),
    "ACE-Step 1.5": Base("ace_step_15", None, None, None),
    "ACE-Step 1.5 XL": Base("ace_step_15_xl", None, None, None),
    "AuraFlow": Base(None, "auraflow-v1", None, "1024x1024"),
    "Boogu": Base("boogu_image.0.1", None, None, None),
    "ERNIE-Image": Base("ernie_image", None, None, None),
    "HiDream I1": Base("hidream_i1", "hidream-i1", None, "1024x1024"),
    "HiDream O1": Base(
        "hidream_o1_image", "HiDream-O1-Image", "https://github.com/HiDream-ai/HiDream-O1-Image", "2048x2048"
    ),
    "HunyuanImage 2.1 Refiner": Base(None, "hunyuan-image-2_1-refiner", None, "2048x2048"),
    "Ideogram 4": Base("ideogram4", "Ideogram-4", "https://huggingface.co/Comfy-Org/Ideogram-4", "1024x1024"),
    "Kandinsky 5": Base("kandinsky5", "Kandinsky-5", "https://github.com/kandinskylab/kandinsky-5", "1280x720"),
    "Krea 2": Base("krea2", "Krea-2", "https://github.com/krea-ai/krea-2", "1024x1024"),
    "Mage-Flow": Base("mageflow", None, None, None),
    "MiniMax H3": Base("minimax_h3", None, None, None),
    "Mochi": Base(None, "genmo-mochi-1", None, "848x480"),
    "OmniGen2": Base("omnigen2", "omnigen-2", None, "1024x1024"),
    "PixArt": Base("pixart", "pixart-ms-sigma-xl-2", None, "1024x1024"),
    "SDXL Refiner": Base(None, "stable-diffusion-xl-v1-refiner", _STABILITY, "1024x1024"),
    "Stable Cascade B": Base(None, "stable-cascade-v1-stage-b", None, "1024x1024"),
    "Stable Cascade C": Base(None, "stable-cascade-v1-stage-c", None, "1024x1024"),
    "SVD": Base(None, "stable-video-diffusion-img2vid-v1", None, "1024x576"),
}
_NOWHERE = "none of these programs has a name for it"
_SEVERAL = "several models with different names have the same weights: "
UNNAMED: dict[str, str] = {
    "ACE-Step": _NOWHERE,
    "CogVideoX": _NOWHERE,
    "Cosmos 1": _SEVERAL + "text to world and video to world",
    "Cosmos Predict2": _SEVERAL + "Anima and Cosmos Predict2, text to image and video to world",
    "Hunyuan3D 2": _NOWHERE,
    "Hunyuan3D 2.1": _NOWHERE,
    "HunyuanDiT": _NOWHERE,
    "Joy-Image": _NOWHERE,
    "KOALA": _NOWHERE,
    "Lens": _NOWHERE,
    "LongCat-Image": _NOWHERE,
    "MiniMax Music 3": _NOWHERE,
    "NewBie": _NOWHERE,
    "Ovis-Image": _NOWHERE,
    "PiD": _NOWHERE,
    "PixelDiT": _NOWHERE,
    "SD x4 upscaler": _NOWHERE,
    "SeedVR2": _NOWHERE,
    "Stable Audio": _NOWHERE,
    "Stable Audio 3": _NOWHERE,
    "TripoSplat": _NOWHERE,
}
# Assumed for a LoRA of text encoders only: other models have the same encoders, but they are rarely trained there.
ASSUMED = ("SD 2", "SDXL")


def base_metadata(architecture: Architecture | None, candidates: Sequence[Architecture]) -> dict[str, str]:
    """The metadata about the base model of a LoRA for this architecture.

    If that is None, the entries that all ``candidates`` have in common; none if there are no candidates.
    """
    possible = [architecture] if architecture is not None else _likely(candidates)
    metadata = [_metadata(one) for one in possible]
    if not metadata:
        return {}
    return {key: value for key, value in metadata[0].items() if all(other.get(key) == value for other in metadata)}


def _likely(candidates: Sequence[Architecture]) -> Sequence[Architecture]:
    names = {candidate.name for candidate in candidates}
    assumed = next((name for name in ASSUMED if name in names and "SD 1.5" not in names), None)
    return [candidate for candidate in candidates if assumed in (None, candidate.name)]


def _metadata(architecture: Architecture) -> dict[str, str]:
    base = BASES.get(architecture.name) or BASES.get(architecture.family)
    return {V2: str(False)} if base is None else base.metadata()
