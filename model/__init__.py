"""What is learned: networks, objectives, data windows, training loops. Knows torch, not Gymnasium.

One alphabet of axes, used in every shape comment below this folder:

====== =========================================================
``b``  batch (clips in training, worlds in play)
``t``  chunks in a clip
``f``  frames in a chunk (4 by default)
``h w`` latent grid (6, 10 for the default frame of 96 x 160)
``n``  ``h * w`` tokens of one chunk
``c``  channels of a latent (16)
``d``  width of the transformer
``a``  entries of an action vector (20)
====== =========================================================
"""
