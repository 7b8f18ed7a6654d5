"""Stable Diffusion's U-Nets, with the configurations that ComfyUI infers from checkpoints, and Stable Cascade."""

from __future__ import annotations

from .entry import Config, Entry

UNET: Config = {
    "image_size": 32,
    "use_spatial_transformer": True,
    "legacy": False,
    "use_checkpoint": False,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_temporal_attention": False,
}
SD15 = UNET | {
    "adm_in_channels": None,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1] * 9 + [0] * 3,
    "transformer_depth_middle": 1,
    "context_dim": 768,
    "use_linear_in_transformer": False,
}
SD2 = SD15 | {"context_dim": 1024, "use_linear_in_transformer": True}
SDXL = UNET | {
    "num_classes": "sequential",
    "adm_in_channels": 2816,
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
    "context_dim": 2048,
    "use_linear_in_transformer": True,
}
REFINER = SD2 | {
    "num_classes": "sequential",
    "adm_in_channels": 2560,
    "model_channels": 384,
    "transformer_depth": [0, 0, 4, 4, 4, 4, 0, 0],
    "transformer_depth_output": [0, 0, 0, 4, 4, 4, 4, 4, 4, 0, 0, 0],
    "transformer_depth_middle": 4,
    "context_dim": 1280,
}
# SDXL with layers removed. A middle depth of -1 means no attention there, -2 no middle block.
SSD_1B = SDXL | {
    "transformer_depth": [0, 0, 2, 2, 4, 4],
    "transformer_depth_output": [0, 0, 0, 1, 1, 2, 10, 4, 4],
    "transformer_depth_middle": -1,
}
VEGA = SDXL | {
    "transformer_depth": [0, 0, 1, 1, 2, 2],
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "transformer_depth_middle": -1,
}
KOALA_700M = SDXL | {
    "num_res_blocks": [1, 1, 1],
    "transformer_depth": [0, 2, 5],
    "transformer_depth_output": [0, 0, 2, 2, 5, 5],
    "transformer_depth_middle": -2,
}
KOALA_1B = KOALA_700M | {
    "transformer_depth": [0, 2, 6],
    "transformer_depth_output": [0, 0, 2, 2, 6, 6],
    "transformer_depth_middle": 6,
}
UPSCALER = SD2 | {
    "in_channels": 7,
    "model_channels": 256,
    "channel_mult": [1, 2, 2, 4],
    "transformer_depth": [0, 0] + [1] * 6,
    "transformer_depth_output": [0] * 3 + [1] * 9,
}


def unclip(width: int) -> Config:
    """SD 2.1 with an image embedding as additional input."""
    return SD2 | {"num_classes": "sequential", "adm_in_channels": width}


def video(width: int) -> Config:
    """Stable Video Diffusion; ``width``: that of the vector of frame rate, motion and camera."""
    return unclip(width) | {
        "in_channels": 8,
        "use_temporal_attention": True,
        "use_temporal_resblock": True,
        "extra_ff_mix_layer": True,
        "use_spatial_context": True,
        "merge_strategy": "learned_with_images",
        "merge_factor": 0.0,
        "video_kernel_size": [3, 1, 1],
        "disable_temporal_crossattention": False,
    }


CASCADE_C = {"stable_cascade_stage": "c", "c_cond": 2048}
CASCADE_C_LITE = CASCADE_C | {
    "c_cond": 1536,
    "c_hidden": [1536, 1536],
    "nhead": [24, 24],
    "blocks": [[4, 12], [12, 4]],
}
CASCADE_B = {
    "stable_cascade_stage": "b",
    "c_hidden": [320, 640, 1280, 1280],
    "nhead": [-1, -1, 20, 20],
    "blocks": [[2, 6, 28, 6], [6, 28, 6, 2]],
    "block_repeat": [[1, 1, 1, 1], [3, 3, 2, 2]],
}
CASCADE_B_LITE = CASCADE_B | {
    "c_hidden": [320, 576, 1152, 1152],
    "nhead": [-1, 9, 18, 18],
    "blocks": [[2, 4, 14, 4], [4, 14, 4, 2]],
    "block_repeat": [[1, 1, 1, 1], [2, 2, 2, 2]],
}

MODELS: dict[str, Entry] = {
    "SD 1.5": ("SD 1.5", "SD15", SD15),
    "SD 1.5 InstructPix2Pix": ("SD 1.5", "SD15_instructpix2pix", SD15 | {"in_channels": 8}),
    "Stable Zero123": ("SD 1.5", "Stable_Zero123", SD15 | {"in_channels": 8}),
    "SD 2": ("SD 2", "SD20", SD2),
    "SDXL": ("SDXL", "SDXL", SDXL),
    "SDXL InstructPix2Pix": ("SDXL", "SDXL_instructpix2pix", SDXL | {"in_channels": 8}),
    "SDXL refiner": ("SDXL Refiner", "SDXLRefiner", REFINER),
    "SSD-1B": ("SDXL", "SSD1B", SSD_1B),
    "Segmind Vega": ("SDXL", "Segmind_Vega", VEGA),
    "KOALA 1B": ("KOALA", "KOALA_1B", KOALA_1B),
    "SD 2.1 unCLIP-L": ("SD 2", "SD21UnclipL", unclip(1536)),
    "SD 2.1 unCLIP-H": ("SD 2", "SD21UnclipH", unclip(2048)),
    # unlike 0.33, 0.3.75 doesn't set the width of a head in the class
    "Lotus": ("SD 2", "LotusD", unclip(4) | {"num_head_channels": 64}),
    "SD x4 upscaler": ("SD x4 upscaler", "SD_X4Upscaler", UPSCALER),
    "KOALA 700M": ("KOALA 700M", "KOALA_700M", KOALA_700M),
    "SVD": ("SVD", "SVD_img2vid", video(768)),
    "SV3D u": ("SVD", "SV3D_u", video(256)),
    "SV3D p": ("SVD", "SV3D_p", video(1280)),
    "Stable Cascade C": ("Stable Cascade C", "Stable_Cascade_C", CASCADE_C),
    "Stable Cascade C lite": ("Stable Cascade C lite", "Stable_Cascade_C", CASCADE_C_LITE),
    "Stable Cascade B": ("Stable Cascade B", "Stable_Cascade_B", CASCADE_B),
    "Stable Cascade B lite": ("Stable Cascade B lite", "Stable_Cascade_B", CASCADE_B_LITE),
}
