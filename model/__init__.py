"""What is learned: networks, objectives, data windows, training loops. Knows torch, not Gymnasium.

One alphabet of axes, used in every shape comment below this folder:

====== =========================================================
``b``  batch (clips in training, worlds in play)
``t``  chunks in a clip
``f``  frames in a chunk (4 by default)
``h w`` latent grid (12, 20 for the default frame of 96 x 160)
``n``  tokens of one chunk, a patch of 2 x 2 positions each (60)
``c``  channels of a latent (8)
``d``  width of the transformer
``a``  entries of an action vector (20)
====== =========================================================
"""
