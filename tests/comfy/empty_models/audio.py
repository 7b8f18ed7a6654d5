"""Models of music and sound."""

from __future__ import annotations

from .entry import Config, Entry

STABLE_AUDIO: Config = {
    "audio_model": "dit1.0",
    "global_cond_dim": 1536,
    "project_cond_tokens": False,
    "embed_dim": 1536,
    "io_channels": 64,
    "input_concat_dim": 0,
    "depth": 24,
}
STABLE_AUDIO_3 = STABLE_AUDIO | {
    "global_cond_dim": 768,
    "project_cond_tokens": True,
    "num_memory_tokens": 64,
    "attn_kwargs": {"qk_norm": "rms", "differential": True},
    "norm_type": "rms_norm",
    "num_heads": 24,
    "timestep_features_type": "expo",
    "io_channels": 256,
    "local_add_cond_dim": 257,
    "global_cond_shared_embed": True,
    "global_cond_type": "adaLN",
}
ACE_STEP: Config = {
    "audio_model": "ace",
    "attention_head_dim": 128,
    "in_channels": 8,
    "inner_dim": 2560,
    "max_height": 16,
    "max_position": 32768,
    "max_width": 32768,
    "mlp_ratio": 2.5,
    "num_attention_heads": 20,
    "num_layers": 24,
    "out_channels": 8,
    "patch_size": [16, 1],
    "rope_theta": 1000000.0,
    "speaker_embedding_dim": 512,
    "text_embedding_dim": 768,
    "ssl_encoder_depths": [8, 8],
    "ssl_latent_dims": [1024, 768],
    "ssl_names": ["mert", "m-hubert"],
    "lyric_encoder_vocab_size": 6693,
    "lyric_hidden_size": 1024,
}
ACE_STEP_15: Config = {
    "audio_model": "ace1.5",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_heads": 16,
    "encoder_hidden_size": 2048,
    "encoder_num_heads": 16,
    "encoder_intermediate_size": 6144,
    "num_dit_layers": 24,
}
ACE_STEP_15_XL = ACE_STEP_15 | {
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_heads": 32,
    "num_dit_layers": 32,
}

MODELS: dict[str, Entry] = {
    "Stable Audio": ("Stable Audio", "StableAudio", STABLE_AUDIO),
    "Stable Audio 3": ("Stable Audio 3", "StableAudio3", STABLE_AUDIO_3),
    "ACE-Step": ("ACE-Step", "ACEStep", ACE_STEP),
    "ACE-Step 1.5": ("ACE-Step 1.5", "ACEStep15", ACE_STEP_15),
    "ACE-Step 1.5 XL": ("ACE-Step 1.5 XL", "ACEStep15", ACE_STEP_15_XL),
    "MiniMax Music 3": ("MiniMax Music 3", "MiniMaxMusic3", {"audio_model": "minimax_music3"}),
}
