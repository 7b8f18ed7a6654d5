"""The other image models."""

from __future__ import annotations

from .entry import Config, Entry


def sd3(depth: int, dual: int = 0) -> Config:
    """``dual``: how many blocks have a second attention, starting with the first (3.5 Medium)."""
    linear = {"in_features": 4096, "out_features": depth * 64}
    return {
        "in_channels": 16,
        "patch_size": 2,
        "out_channels": 16,
        "depth": depth,
        "input_size": None,
        "adm_in_channels": 2048,
        "context_embedder_config": {"target": "torch.nn.Linear", "params": linear},
        "num_patches": 36864,
        "pos_embed_max_size": 192,
        "pos_embed_scaling_factor": None,
        "x_block_self_attn_layers": list(range(dual)),
        "qk_norm": "rms",
    }


AURA = {"max_seq": 4096, "cond_seq_dim": 2048, "n_double_layers": 4, "n_layers": 36}
PIXART: Config = {
    "num_heads": 16,
    "patch_size": 2,
    "hidden_size": 1152,
    "in_channels": 4,
    "depth": 28,
    "input_size": 128,
    "pe_interpolation": 2,
}
PIXART_ALPHA = PIXART | {"image_model": "pixart_alpha", "micro_condition": True, "model_max_length": 120}
PIXART_SIGMA = PIXART | {"image_model": "pixart_sigma", "micro_condition": False, "model_max_length": 300}
HUNYUAN_DIT: Config = {"image_model": "hydit", "depth": 40, "hidden_size": 1408, "mlp_ratio": 4.3637}
HUNYUAN_DIT_11 = HUNYUAN_DIT | {"image_model": "hydit1", "size_cond": True, "use_style_cond": True}
LUMINA: Config = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "dim": 2304,
    "cap_feat_dim": 2304,
    "n_layers": 26,
    "qk_norm": True,
    "n_heads": 24,
    "n_kv_heads": 8,
    "axes_dims": [32] * 3,
    "axes_lens": [300, 512, 512],
    "rope_theta": 10000.0,
    "ffn_dim_multiplier": 4.0,
}
NEWBIE = LUMINA | {"cap_feat_dim": 2560, "n_layers": 36, "clip_text_dim": 1024}
Z_IMAGE = LUMINA | {
    "dim": 3840,
    "cap_feat_dim": 2560,
    "n_layers": 30,
    "n_heads": 30,
    "n_kv_heads": 30,
    "axes_dims": [32, 48, 48],
    "axes_lens": [1536, 512, 512],
    "rope_theta": 256.0,
    "ffn_dim_multiplier": 8 / 3,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}
Z_IMAGE_PIXELS = Z_IMAGE | {
    "image_model": "zimage_pixel",
    "patch_size": 32,
    "in_channels": 3,
    "decoder_in_channels": 3072,
    "decoder_hidden_size": 3840,
    "decoder_num_res_blocks": 4,
    "decoder_max_freqs": 8,
}
HIDREAM: Config = {
    "image_model": "hidream",
    "attention_head_dim": 128,
    "axes_dims_rope": [64, 32, 32],
    "caption_channels": [4096, 4096],
    "max_resolution": [128, 128],
    "in_channels": 16,
    "llama_layers": list(range(32)) + [31] * 16,
    "num_attention_heads": 20,
    "num_routed_experts": 4,
    "num_activated_experts": 2,
    "num_layers": 16,
    "num_single_layers": 32,
    "out_channels": 16,
    "patch_size": 2,
    "text_emb_dim": 2048,
}
OMNIGEN2: Config = {
    "image_model": "omnigen2",
    "axes_dim_rope": [40, 40, 40],
    "axes_lens": [1024, 1664, 1664],
    "ffn_dim_multiplier": None,
    "hidden_size": 2520,
    "in_channels": 16,
    "multiple_of": 256,
    "norm_eps": 1e-05,
    "num_attention_heads": 21,
    "num_kv_heads": 7,
    "num_layers": 32,
    "num_refiner_layers": 2,
    "out_channels": None,
    "patch_size": 2,
    "text_feat_dim": 2048,
    "timestep_scale": 1000.0,
}
BOOGU: Config = {
    "image_model": "boogu",
    "hidden_size": 3360,
    "num_layers": 32,
    "num_double_stream_layers": 8,
    "num_refiner_layers": 2,
    "instruction_feat_dim": 4096,
}
QWEN: Config = {"image_model": "qwen_image", "in_channels": 64, "num_layers": 60}
QWEN_LAYERED = QWEN | {"use_additional_t_cond": True, "default_ref_method": "negative_index"}
MAGE_FLOW: Config = {"image_model": "mage_flow", "in_channels": 128, "num_layers": 12}
KREA2: Config = {
    "image_model": "krea2",
    "features": 6144,
    "channels": 16,
    "patch": 2,
    "layers": 28,
    "heads": 48,
    "kvheads": 12,
    "txtlayers": 12,
    "txtdim": 2560,
}
JOY_IMAGE: Config = {
    "image_model": "joyimage",
    "in_channels": 16,
    "hidden_size": 4096,
    "patch_size": [1, 2, 2],
    "num_layers": 40,
    "num_attention_heads": 32,
    "text_dim": 4096,
}
IDEOGRAM4: Config = {"image_model": "ideogram4", "in_channels": 128, "num_layers": 34}
LENS: Config = {
    "image_model": "lens",
    "in_channels": 128,
    "out_channels": 32,
    "num_layers": 48,
    "num_attention_heads": 24,
    "enc_hidden_dim": 2880,
    "multi_layer_encoder_feature": True,
    "selected_layer_index": (0, 1, 2, 3),
}
PID: Config = {
    "image_model": "pid",
    "lq_hidden_dim": 512,
    "lq_interval": 2,
    "lq_latent_channels": 16,
    "latent_spatial_down_factor": 8,
}
PID_15 = PID | {
    "lq_latent_unpatchify_factor": 1,
    "lq_conv_padding_mode": "replicate",
    "lq_gate_per_token": True,
    "pit_lq_inject": True,
    "rope_ref_h": 2048,
    "rope_ref_w": 2048,
}

MODELS: dict[str, Entry] = {
    "SD 3 Medium": ("SD 3", "SD3", sd3(24)),
    "SD 3.5 Medium": ("SD 3", "SD3", sd3(24, dual=13)),
    "SD 3.5 Large": ("SD 3.5 Large", "SD3", sd3(38)),
    "Qwen-Image": ("Qwen-Image", "QwenImage", QWEN),
    "Lumina 2": ("Lumina 2", "Lumina2", LUMINA),
    "Z-Image": ("Z-Image", "ZImage", Z_IMAGE),
    "AuraFlow": ("AuraFlow", "AuraFlow", AURA),
    "PixArt Alpha": ("PixArt", "PixArtAlpha", PIXART_ALPHA),
    "PixArt Sigma": ("PixArt", "PixArtSigma", PIXART_SIGMA),
    "HunyuanDiT 1.1": ("HunyuanDiT", "HunyuanDiT1", HUNYUAN_DIT_11),
    "HunyuanDiT 1.2": ("HunyuanDiT", "HunyuanDiT", HUNYUAN_DIT),
    "Omnigen2": ("OmniGen2", "Omnigen2", OMNIGEN2),
    "Boogu": ("Boogu", "Boogu", BOOGU),
    "Qwen-Image Layered": ("Qwen-Image", "QwenImage", QWEN_LAYERED),
    "Mage-Flow": ("Mage-Flow", "MageFlow", MAGE_FLOW),
    "Krea 2": ("Krea 2", "Krea2", KREA2),
    "NewBie": ("NewBie", "Lumina2", NEWBIE),
    "Z-Image Omni": ("Z-Image", "ZImage", Z_IMAGE | {"siglip_feat_dim": 1152}),
    "Z-Image pixel space": ("Z-Image", "ZImagePixelSpace", Z_IMAGE_PIXELS),
    "HiDream I1": ("HiDream I1", "HiDream", HIDREAM),
    "HiDream O1": ("HiDream O1", "HiDreamO1", {"image_model": "hidream_o1"}),
    "Joy-Image": ("Joy-Image", "JoyImage", JOY_IMAGE),
    "Ideogram 4": ("Ideogram 4", "Ideogram4", IDEOGRAM4),
    "Lens": ("Lens", "Lens", LENS),
    "ERNIE-Image": ("ERNIE-Image", "ErnieImage", {"image_model": "ernie"}),
    "PixelDiT": ("PixelDiT", "PixelDiTT2I", {"image_model": "pixeldit_t2i"}),
    "PiD": ("PiD", "PiD", PID),
    "PiD 1.5": ("PiD", "PiD", PID_15),
}
