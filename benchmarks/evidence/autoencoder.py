"""The benchmark's autoencoder: a TAESD of 16 latent channels for grey pictures, most of it by construction.

The encoder computes a fixed linear map: three convolutions of stride 2 gather each 8 x 8 patch in 64 channels, and the
last one projects it on the 16 principal components of the training pictures' patches. Its residual blocks are zero.
The decoder is trained, but narrow and short: it uses WIDTH of TAESD's 64 channels and one residual block on each
level. In the file the rest is zero, so ComfyUI computes the same pictures with its own TAESD.
Latents here are the model's: (B, 16, H / 8, W / 8), what ComfyUI's SD 3 latent format makes of the autoencoder's.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

PATCH = 8
CHANNELS = 16
TAESD_WIDTH = 64
WIDTH = 32
# ComfyUI's latent format for SD 3: model's = (autoencoder's - SHIFT_FACTOR) * SCALE_FACTOR
SCALE_FACTOR = 1.5305
SHIFT_FACTOR = 0.0609
ENCODER_BLOCKS = (1, 3, 4, 5, 7, 8, 9, 11, 12, 13)
ENCODER_STRIDES = (2, 6, 10)
DECODER_BLOCKS = (3, 4, 5, 8, 9, 10, 13, 14, 15, 18)
TRAINED_BLOCKS = (3, 8, 13, 18)
DECODER_INNER = (7, 12, 17)  # the convolutions after each upsampling


class Encoder(nn.Module):
    """``projection`` (16, 64) and ``bias`` (16,) act on an 8 x 8 patch in the order of pixel_order()."""

    projection: Tensor
    bias: Tensor

    def __init__(self, projection: Tensor, bias: Tensor):
        super().__init__()
        kernel = torch.zeros(CHANNELS, 1, PATCH, PATCH)
        for channel, (row, column) in enumerate(pixel_order()):
            kernel[:, 0, row, column] = projection[:, channel]
        self.register_buffer("kernel", kernel)
        self.register_buffer("projection", projection)
        self.register_buffer("bias", bias)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, H, W) in 0..1 to the model's latents."""
        latents = functional.conv2d(pictures[:, None], self.get_buffer("kernel"), self.bias, stride=PATCH)
        return (latents - SHIFT_FACTOR) * SCALE_FACTOR


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        convolutions = [nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), convolutions[2])
        nn.init.zeros_(convolutions[2].weight)  # starts as the identity

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv(x) + x)


class Decoder(nn.ModuleDict):
    """Named by the positions that the layers have in TAESD's decoder."""

    def __init__(self, width: int = WIDTH):
        super().__init__()
        self["1"] = nn.Conv2d(CHANNELS, width, 3, padding=1)
        for level, block in enumerate(TRAINED_BLOCKS):
            self[str(block)] = Block(width)
            if level < len(DECODER_INNER):
                self[str(DECODER_INNER[level])] = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self["19"] = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """The model's latents to pictures (B, 3, H, W), about 0..1 but not clipped."""
        x = latents / SCALE_FACTOR + SHIFT_FACTOR
        x = functional.relu(self["1"](torch.tanh(x / 3) * 3))
        for level, block in enumerate(TRAINED_BLOCKS):
            x = self[str(block)](x)
            if level < len(DECODER_INNER):
                x = self[str(DECODER_INNER[level])](functional.interpolate(x, scale_factor=2.0))
        return self["19"](x)


def pixel_order() -> list[tuple[int, int]]:
    """Which pixel (row, column) of a patch reaches each of the 64 channels through the three strides."""
    order = [(0, 0)]
    for level in range(3):
        step = 2**level
        order = [(row + step * (k // 2), column + step * (k % 2)) for row, column in order for k in range(4)]
    return order


def fit_encoder(pictures: np.ndarray) -> Encoder:
    """Principal components of the patches of ``pictures`` (N, H, W).

    Each component is divided by the root of its deviation: halfway between keeping the deviations, which would leave
    the last channels without signal, and making them all one, which would give noise the weight of the outline.
    The model's latents have mean 0 and mean square 1.
    """
    n, height, width = pictures.shape
    patches = pictures.reshape(n, height // PATCH, PATCH, width // PATCH, PATCH).transpose(0, 1, 3, 2, 4)
    ordered = np.stack([patches[..., row, column] for row, column in pixel_order()], axis=-1)
    ordered = ordered.reshape(-1, PATCH * PATCH).astype(np.float64)
    mean = ordered.mean(0)
    variances, vectors = np.linalg.eigh(np.cov((ordered - mean).T))
    variances, vectors = variances[::-1][:CHANNELS], vectors[:, ::-1][:, :CHANNELS]
    vectors = vectors * np.sign(vectors.sum(0) + 1e-9)  # eigenvectors have no sign of their own
    scales = variances**-0.25
    scales /= np.sqrt(np.mean(variances * scales**2))
    projection = (vectors * scales).T
    bias = -projection @ mean
    projection, bias = projection / SCALE_FACTOR, bias / SCALE_FACTOR + SHIFT_FACTOR
    return Encoder(torch.from_numpy(projection).float(), torch.from_numpy(bias).float())


def taesd_state(encoder: Encoder, decoder: Decoder) -> dict[str, Tensor]:
    """The weights as a TAESD file that ComfyUI's Load VAE reads, in float16."""
    state = _empty_taesd()
    # The grey of the three colours, with weights that are exact in float16.
    state["taesd_encoder.0.weight"][0, :, 1, 1] = torch.tensor([0.25, 0.5, 0.25])
    for level, position in enumerate(ENCODER_STRIDES):
        weight = state[f"taesd_encoder.{position}.weight"]
        for channel in range(4**level):
            for k in range(4):
                weight[4 * channel + k, channel, 1 + k // 2, 1 + k % 2] = 1
    state["taesd_encoder.14.weight"][:, :, 1, 1] = encoder.projection
    state["taesd_encoder.14.bias"][:] = encoder.bias
    for name, trained in decoder.state_dict().items():
        state[f"taesd_decoder.{name}"][tuple(slice(size) for size in trained.shape)] = trained
    return {name: weight.half() for name, weight in state.items()}


def from_taesd_state(state: dict[str, Tensor]) -> tuple[Encoder, Decoder]:
    """The opposite of taesd_state."""
    encoder = Encoder(
        state["taesd_encoder.14.weight"][:, :, 1, 1].float(),
        state["taesd_encoder.14.bias"].float(),
    )
    decoder = Decoder()
    own = decoder.state_dict()
    for name, weight in own.items():
        own[name] = state[f"taesd_decoder.{name}"][tuple(slice(size) for size in weight.shape)].float()
    decoder.load_state_dict(own)
    return encoder.eval(), decoder.eval()


def _empty_taesd() -> dict[str, Tensor]:
    """Every weight of a TAESD with 16 latent channels, zero; the latents are not scaled a second time."""
    full = TAESD_WIDTH
    shapes = {
        "taesd_encoder.0.weight": (full, 3, 3, 3),
        "taesd_encoder.0.bias": (full,),
        "taesd_encoder.14.weight": (CHANNELS, full, 3, 3),
        "taesd_encoder.14.bias": (CHANNELS,),
        "taesd_decoder.1.weight": (full, CHANNELS, 3, 3),
        "taesd_decoder.1.bias": (full,),
        "taesd_decoder.19.weight": (3, full, 3, 3),
        "taesd_decoder.19.bias": (3,),
    }
    for part, inner, blocks in (
        ("taesd_encoder", ENCODER_STRIDES, ENCODER_BLOCKS),
        ("taesd_decoder", DECODER_INNER, DECODER_BLOCKS),
    ):
        for position in inner:
            shapes[f"{part}.{position}.weight"] = (full, full, 3, 3)
        for block in blocks:
            for convolution in (0, 2, 4):
                shapes[f"{part}.{block}.conv.{convolution}.weight"] = (full, full, 3, 3)
                shapes[f"{part}.{block}.conv.{convolution}.bias"] = (full,)
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    return state | {"vae_scale": torch.tensor(1.0), "vae_shift": torch.tensor(0.0)}
