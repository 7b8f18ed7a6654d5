"""The other video models."""

from __future__ import annotations

from .entry import Config, Entry

LTX: Config = {"image_model": "ltxv", "num_layers": 28, "attention_head_dim": 64, "cross_attention_dim": 2048}
LTX_13B = LTX | {"num_layers": 48, "attention_head_dim": 128, "cross_attention_dim": 4096}
LTX_2 = LTX_13B | {"image_model": "ltxav"}
# from the metadata of the published file
LTX_23 = LTX_2 | {
    "apply_gated_attention": True,
    "cross_attention_adaln": True,
    "caption_proj_before_connector": True,
    "caption_projection_first_linear": False,
    "connector_apply_gated_attention": True,
    "connector_num_layers": 8,
    "connector_num_attention_heads": 32,
    "connector_attention_head_dim": 128,
    "audio_connector_attention_head_dim": 64,
}
LTX_25 = LTX_23 | {"ff_bias": False, "use_keyframes_abs_pos_embedding": True}
MOCHI: Config = {
    "image_model": "mochi_preview",
    "depth": 48,
    "patch_size": 2,
    "num_heads": 24,
    "hidden_size_x": 3072,
    "hidden_size_y": 1536,
    "mlp_ratio_x": 4.0,
    "mlp_ratio_y": 4.0,
    "learn_sigma": False,
    "in_channels": 12,
    "qk_norm": True,
    "qkv_bias": False,
    "out_bias": True,
    "attn_drop": 0.0,
    "patch_embed_bias": True,
    "posenc_preserve_area": True,
    "timestep_mlp_bias": True,
    "attend_to_padding": False,
    "timestep_scale": 1000.0,
    "use_t5": True,
    "t5_feat_dim": 4096,
    "t5_token_length": 256,
    "rope_theta": 10000.0,
}
COSMOS: Config = {
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "concat_padding_mask": True,
    "pos_emb_cls": "rope3d",
    "pos_emb_interpolation": "crop",
    "use_adaln_lora": True,
    "adaln_lora_dim": 256,
}
COSMOS_1 = COSMOS | {
    "image_model": "cosmos",
    "model_channels": 4096,
    "block_config": "FA-CA-MLP",
    "pos_emb_learnable": False,
    "block_x_format": "THWBD",
    "affline_emb_norm": True,
    "num_blocks": 28,
    "num_heads": 32,
    "extra_per_block_abs_pos_emb": True,
    "extra_per_block_abs_pos_emb_type": "learnable",
    "rope_h_extrapolation_ratio": 1.0,
    "rope_w_extrapolation_ratio": 1.0,
    "rope_t_extrapolation_ratio": 2.0,
}
COSMOS_1_14B = COSMOS_1 | {
    "model_channels": 5120,
    "num_blocks": 36,
    "num_heads": 40,
    "rope_h_extrapolation_ratio": 2.0,
    "rope_w_extrapolation_ratio": 2.0,
    "extra_h_extrapolation_ratio": 2.0,
    "extra_w_extrapolation_ratio": 2.0,
    "extra_t_extrapolation_ratio": 2.0,
}
COSMOS_2 = COSMOS | {
    "image_model": "cosmos_predict2",
    "model_channels": 2048,
    "crossattn_emb_channels": 1024,
    "pos_emb_learnable": True,
    "min_fps": 1,
    "max_fps": 30,
    "num_blocks": 28,
    "num_heads": 16,
    "extra_per_block_abs_pos_emb": False,
    "rope_h_extrapolation_ratio": 4.0,
    "rope_w_extrapolation_ratio": 4.0,
    "rope_t_extrapolation_ratio": 1.0,
    "extra_h_extrapolation_ratio": 1.0,
    "extra_w_extrapolation_ratio": 1.0,
    "extra_t_extrapolation_ratio": 1.0,
    "rope_enable_fps_modulation": False,
}
COSMOS_2_14B = COSMOS_2 | {"model_channels": 5120, "num_blocks": 36, "num_heads": 40}
COSMOS_2_IMAGE = COSMOS_2 | {
    "in_channels": 17,
    "rope_h_extrapolation_ratio": 3.0,
    "rope_w_extrapolation_ratio": 3.0,
}
KANDINSKY: Config = {
    "image_model": "kandinsky5",
    "model_dim": 1792,
    "axes_dims": (16, 24, 24),
    "time_dim": 512,
    "ff_dim": 7168,
    "visual_embed_dim": 132,
    "num_text_blocks": 2,
    "num_visual_blocks": 32,
}
KANDINSKY_PRO = KANDINSKY | {
    "model_dim": 4096,
    "axes_dims": (32, 48, 48),
    "time_dim": 1024,
    "ff_dim": 16384,
    "num_text_blocks": 4,
    "num_visual_blocks": 60,
}
KANDINSKY_IMAGE = KANDINSKY | {
    "model_dim": 2560,
    "axes_dims": (32, 48, 48),
    "rope_scale_factor": (1.0, 1.0, 1.0),
    "ff_dim": 10240,
    "visual_embed_dim": 64,
    "num_visual_blocks": 50,
}
COGVIDEOX: Config = {
    "image_model": "cogvideox",
    "num_attention_heads": 30,
    "attention_head_dim": 64,
    "time_embed_dim": 512,
    "num_layers": 30,
    "in_channels": 16,
    "patch_size": 2,
    "text_embed_dim": 4096,
    "use_learned_positional_embeddings": False,
    "use_rotary_positional_embeddings": True,
}
COGVIDEOX_5B = COGVIDEOX | {"num_attention_heads": 48, "num_layers": 42}
COGVIDEOX_5B_IMAGE = COGVIDEOX_5B | {
    "in_channels": 32,
    "use_learned_positional_embeddings": True,
    "use_rotary_positional_embeddings": False,
}
COGVIDEOX_15 = COGVIDEOX_5B | {"patch_size_t": 2}
COGVIDEOX_15_IMAGE = COGVIDEOX_15 | {"in_channels": 32, "ofs_embed_dim": 512}
SEEDVR2_3B: Config = {
    "image_model": "seedvr2",
    "vid_dim": 2560,
    "heads": 20,
    "num_layers": 32,
    "norm_eps": 1e-5,
    "mlp_type": "swiglu",
    "vid_out_norm": True,
}
SEEDVR2_7B: Config = {
    "image_model": "seedvr2",
    "vid_dim": 3072,
    "heads": 24,
    "num_layers": 36,
    "mm_layers": 36,
    "norm_eps": 1e-5,
    "rope_type": "rope3d",
    "rope_dim": 64,
    "mlp_type": "normal",
}

MODELS: dict[str, Entry] = {
    "LTX-Video": ("LTX-Video", "LTXV", LTX),
    "LTX-Video 13B": ("LTX-Video 13B", "LTXV", LTX_13B),
    "LTX 2": ("LTX 2", "LTXAV", LTX_2),
    "LTX 2.3": ("LTX 2", "LTXAV", LTX_23),
    "LTX 2.5": ("LTX 2", "LTXAV", LTX_25),
    "Mochi": ("Mochi", "GenmoMochi", MOCHI),
    "Cosmos 7B": ("Cosmos 7B", "CosmosT2V", COSMOS_1),
    "Cosmos 7B image": ("Cosmos 7B", "CosmosI2V", COSMOS_1 | {"in_channels": 17}),
    "Cosmos 14B": ("Cosmos 14B", "CosmosT2V", COSMOS_1_14B),
    "Cosmos Predict2 2B": ("Anima/Cosmos Predict2 2B", "CosmosT2IPredict2", COSMOS_2),
    "Cosmos Predict2 2B image": ("Anima/Cosmos Predict2 2B", "CosmosI2VPredict2", COSMOS_2_IMAGE),
    "Cosmos Predict2 14B": ("Cosmos Predict2 14B", "CosmosT2IPredict2", COSMOS_2_14B),
    "Anima": ("Anima/Cosmos Predict2 2B", "Anima", COSMOS_2 | {"image_model": "anima"}),
    "Kandinsky 5 Lite": ("Kandinsky 5 Lite", "Kandinsky5", KANDINSKY),
    "Kandinsky 5 Pro": ("Kandinsky 5 Pro", "Kandinsky5", KANDINSKY_PRO),
    "Kandinsky 5 Image": ("Kandinsky 5 Image", "Kandinsky5Image", KANDINSKY_IMAGE),
    "CogVideoX 2B": ("CogVideoX 2B", "CogVideoX_T2V", COGVIDEOX),
    "CogVideoX 5B": ("CogVideoX 5B", "CogVideoX_T2V", COGVIDEOX_5B),
    "CogVideoX 5B image": ("CogVideoX 5B", "CogVideoX_I2V", COGVIDEOX_5B_IMAGE),
    "CogVideoX 1.5": ("CogVideoX 5B", "CogVideoX_T2V", COGVIDEOX_15),
    "CogVideoX 1.5 image": ("CogVideoX 5B", "CogVideoX_I2V", COGVIDEOX_15_IMAGE),
    "CogVideoX Fun 1.5": ("CogVideoX 5B", "CogVideoX_Inpaint", COGVIDEOX_15 | {"in_channels": 48}),
    "MiniMax H3": ("MiniMax H3", "MiniMaxH3", {"image_model": "minimax_h3"}),
    "SeedVR2 3B": ("SeedVR2 3B", "SeedVR2", SEEDVR2_3B),
    "SeedVR2 7B": ("SeedVR2 7B", "SeedVR2", SEEDVR2_7B),
}
