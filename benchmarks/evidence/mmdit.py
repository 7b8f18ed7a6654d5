"""A small MMDiT: the transformer of Stable Diffusion 3 (Esser et al. 2024, arXiv 2403.03206, section 4).

Its state dict has the names and shapes of an SD 3 file, and ComfyUI reads the sizes from them: with n blocks it is
64 n wide and has n heads. Two streams, text and image, have weights of their own and attend to each other; the time
step and the pooled text modulate both. The last block's text stream only gives keys and values.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

HEAD = 64
PATCH = 2
CHANNELS = 16
FREQUENCIES = 256
TEXT_WIDTH = 768
GRID = 16  # patches: the largest picture is 256 x 256 pixels


class MMDiT(nn.Module):
    pos_embed: Tensor

    def __init__(self, depth: int = 3):
        super().__init__()
        width = HEAD * depth
        self.depth = depth
        self.x_embedder = nn.ModuleDict({"proj": nn.Conv2d(CHANNELS, width, PATCH, stride=PATCH)})
        self.t_embedder = nn.ModuleDict({"mlp": _two_layers(FREQUENCIES, width)})
        self.y_embedder = nn.ModuleDict({"mlp": _two_layers(TEXT_WIDTH, width)})
        self.context_embedder = nn.Linear(TEXT_WIDTH, width)
        self.register_buffer("pos_embed", position_table(width))
        self.joint_blocks = nn.ModuleList(JointBlock(width, last=i == depth - 1) for i in range(depth))
        self.final_layer = FinalLayer(width)

    def forward(
        self, latents: Tensor, timesteps: Tensor, context: Tensor, pooled: Tensor, repeats: int | None = None
    ) -> Tensor:
        """The velocity, noise minus picture.

        latents (B, 16, H, W) with H and W even; timesteps (B,) in 0..1000, as ComfyUI counts them; context (B, T, 768)
        and pooled (B, 768) from the text encoder. ``repeats``: the context is folded already (fold_repeats).
        """
        dtype = self.pos_embed.dtype
        batch, _, height, width = latents.shape
        rows, columns = height // PATCH, width // PATCH
        image = self.x_embedder["proj"](latents).flatten(2).transpose(1, 2) + self._positions(rows, columns)
        condition = self.t_embedder["mlp"](time_frequencies(timesteps).to(dtype)) + self.y_embedder["mlp"](pooled)
        condition = functional.silu(condition)
        if repeats is None:
            context, repeats = fold_repeats(context)
        text: Tensor | None = self.context_embedder(context)
        bias = torch.zeros(context.shape[1] + image.shape[1], dtype=dtype, device=latents.device)
        bias[context.shape[1] - 1] = math.log(repeats)  # so the last text token weighs as much as all it stands for
        for block in self.joint_blocks:
            text, image = block(text, image, condition, bias)
        patches = self.final_layer(image, condition)
        patches = patches.reshape(batch, rows, columns, PATCH, PATCH, CHANNELS)
        return patches.permute(0, 5, 1, 3, 2, 4).reshape(batch, CHANNELS, height, width)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """ComfyUI takes the middle of the table."""
        top, left = (GRID - rows) // 2, (GRID - columns) // 2
        table = self.pos_embed.unflatten(1, (GRID, GRID))
        return table[:, top : top + rows, left : left + columns].flatten(1, 2)


class JointBlock(nn.Module):
    def __init__(self, width: int, last: bool):
        super().__init__()
        self.context_block = StreamBlock(width, only_keys=last)
        self.x_block = StreamBlock(width)

    def forward(self, text: Tensor, image: Tensor, condition: Tensor, bias: Tensor) -> tuple[Tensor | None, Tensor]:
        text_heads, text_rest = self.context_block.before(text, condition)
        image_heads, image_rest = self.x_block.before(image, condition)
        query, key, value = torch.cat((text_heads, image_heads), dim=3)
        attended = attention(query, key, value, bias).transpose(1, 2).flatten(2)
        for_text, for_image = attended.split((text.shape[1], image.shape[1]), dim=1)
        new_image = self.x_block.after(for_image, image, image_rest)
        if self.context_block.only_keys:
            return None, new_image
        return self.context_block.after(for_text, text, text_rest), new_image


class StreamBlock(nn.Module):
    """One stream's half of a joint block; ``only_keys``: nothing after the attention."""

    def __init__(self, width: int, only_keys: bool = False):
        super().__init__()
        self.only_keys = only_keys
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width)})
        if not only_keys:
            self.attn["proj"] = nn.Linear(width, width)
            self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        parts = 2 if only_keys else 6
        # Number 1, because in an SD 3 file number 0 is the activation before it.
        self.adaLN_modulation = nn.ModuleDict({"1": nn.Linear(width, parts * width)})

    def before(self, x: Tensor, condition: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Queries, keys and values, (3, B, heads, tokens, 64), and the modulation that ``after`` needs."""
        parts = self.adaLN_modulation["1"](condition)[:, None].chunk(2 if self.only_keys else 6, dim=-1)
        qkv = self.attn["qkv"](_modulated(x, parts[0], parts[1]))
        heads = qkv.unflatten(-1, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)
        return heads, parts[2:]

    def after(self, attended: Tensor, x: Tensor, modulation: tuple[Tensor, ...]) -> Tensor:
        gate_attention, shift, scale, gate = modulation
        x = x + gate_attention * self.attn["proj"](attended)
        hidden = self.mlp["fc1"](_modulated(x, shift, scale))
        return x + gate * self.mlp["fc2"](functional.gelu(hidden, approximate="tanh"))


class FinalLayer(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, PATCH * PATCH * CHANNELS)
        self.adaLN_modulation = nn.ModuleDict({"1": nn.Linear(width, 2 * width)})

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation["1"](condition)[:, None].chunk(2, dim=-1)
        return self.linear(_modulated(x, shift, scale))


def start_weights(model: MMDiT) -> None:
    """Before training: gates and the output start at zero, as in DiT (Peebles and Xie 2023, arXiv 2212.09748)."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        if name.endswith("adaLN_modulation.1") or name == "final_layer.linear":
            assert isinstance(module, nn.Linear)
            nn.init.zeros_(module.weight)
    for embedder in (model.t_embedder, model.y_embedder):
        for layer in ("0", "2"):
            nn.init.normal_(embedder["mlp"].get_parameter(f"{layer}.weight"), std=0.02)


def fold_repeats(context: Tensor) -> tuple[Tensor, int]:
    """Leave out the last tokens that are equal in every prompt of the batch, but one, and count it.

    ComfyUI fills a prompt up to 77 tokens. This text encoder gives all the fillers one vector, and without positions
    they stay equal in every block: one token that counts n times gives the same attention as n of them.
    """
    same = (context == context[:, -1:]).all(-1).all(0)
    different = (~same).nonzero()
    first = int(different[-1]) + 1 if len(different) else 0
    return context[:, : first + 1], context.shape[1] - first


def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """(B, heads, tokens, 64); for so few tokens faster than torch's fused one, above all backwards."""
    scores = (query * HEAD**-0.5) @ key.transpose(-1, -2) + bias
    return scores.softmax(-1) @ value


def time_frequencies(timesteps: Tensor) -> Tensor:
    """(B, 256): cosines, then sines."""
    half = FREQUENCIES // 2
    rates = torch.exp(-math.log(10000) * torch.arange(half, device=timesteps.device) / half)
    angles = timesteps.float()[:, None] * rates
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def position_table(width: int) -> Tensor:
    """(1, GRID * GRID, width): sines and cosines of the column in one half, of the row in the other."""
    rates = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(GRID, dtype=torch.float64)[:, None] * rates
    waves = torch.cat((angles.sin(), angles.cos()), dim=-1)
    columns = waves[None].expand(GRID, GRID, -1)
    rows = waves[:, None].expand(GRID, GRID, -1)
    return torch.cat((columns, rows), dim=-1).reshape(1, GRID * GRID, width).float()


def _two_layers(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width))


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift
