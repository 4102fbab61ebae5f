"""Small random nets that stages of training stand on."""

from latentcraft.model.autoencoder import Autoencoder, AutoencoderConfig
from latentcraft.model.motion import Motion, MotionConfig

WIDTHS, DEPTHS = (16, 16), (1, 1)


def frozen() -> tuple[Autoencoder, Motion]:
    """Return a codec and a flow net that learn no more."""
    codec = Autoencoder(
        AutoencoderConfig(encoder_widths=WIDTHS, encoder_depths=DEPTHS, decoder_widths=WIDTHS, decoder_depths=DEPTHS)
    )
    motion = Motion(MotionConfig(width=16, fine_width=16, dilations=(1, 2)))
    return codec.requires_grad_(False), motion.requires_grad_(False)
