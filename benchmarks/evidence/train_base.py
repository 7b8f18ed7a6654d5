"""Makes the shipped base again: fits the encoder, trains the decoder and the transformer, writes both files.

About an hour on one core that has AMX. A stop loses at most a few minutes: the state is in .evidence/base.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from . import image_encoder
from .autoencoder import fit_encoder, from_taesd_state, taesd_state
from .base import FOLDER, MODEL_FILE, VAE_FILE
from .base_data import background_pairs, base_data, pictures_of
from .fonts import ROOT
from .glyphs import PAIRS
from .train_decoder import train_decoder
from .train_model import PAIRS_ALONE, WITH_BACKGROUND, save_model, train_model

STATE = ROOT / ".evidence" / "base"


def train_base(folder: Path = FOLDER, state: Path = STATE) -> None:
    state.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the batches are small: a second thread mostly waits
    pictures = pictures_of(PAIRS)
    vae = state / VAE_FILE
    if not vae.is_file():
        encoder = fit_encoder(pictures)
        save_file(taesd_state(encoder, train_decoder(pictures, encoder)), vae)
    weights = load_file(vae)
    encoder, _ = from_taesd_state(weights)  # with its weights in float16, as everybody else gets it
    first = train_model(base_data(pictures, encoder), state, PAIRS_ALONE)
    model = train_model(base_data(pictures, encoder, background_pairs()), state, WITH_BACKGROUND, first)
    save_file(weights, folder / VAE_FILE)
    save_model(model, folder / MODEL_FILE)
    image_encoder.train_to(folder / image_encoder.FILE.name)
