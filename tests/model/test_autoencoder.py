import pytest
import torch

from latentcraft.errors import UserError
from latentcraft.model.autoencoder import Autoencoder, AutoencoderConfig

WIDTHS, DEPTHS = (16, 16), (1, 1)
CONFIG = AutoencoderConfig(encoder_widths=WIDTHS, encoder_depths=DEPTHS, decoder_widths=WIDTHS, decoder_depths=DEPTHS)


@pytest.mark.parametrize("size", [(96, 160), (8, 8), (48, 112)])
def test_latents_are_eight_times_smaller_and_of_unit_rms(size: tuple[int, int]):
    torch.manual_seed(0)
    autoencoder = Autoencoder(CONFIG).requires_grad_(False)
    frames = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    latents = autoencoder.encode(frames)
    assert latents.shape == (2, size[0] // 8, size[1] // 8, 8)
    torch.testing.assert_close(latents.square().mean(-1), torch.ones(latents.shape[:-1]), rtol=1e-3, atol=1e-3)
    decoded = autoencoder.decode(latents)
    assert decoded.shape == frames.shape
    assert decoded.dtype == torch.uint8


def test_a_frame_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    autoencoder = Autoencoder(CONFIG).requires_grad_(False)
    frames = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    torch.testing.assert_close(autoencoder.encode(frames)[1:2], autoencoder.encode(frames[1:2]), rtol=1e-4, atol=1e-4)


def test_bad_sizes_and_shapes_are_named():
    with pytest.raises(UserError, match="100x160"):
        Autoencoder(CONFIG).encode(torch.zeros(1, 100, 160, 3, dtype=torch.uint8))
    with pytest.raises(UserError, match="reduce by 8"):
        AutoencoderConfig(stem=2)
    with pytest.raises(UserError, match="multiples of 8"):
        AutoencoderConfig(encoder_widths=(12, 16))
