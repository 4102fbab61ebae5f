"""Training stages: autoencoder, encode, dynamics; each resumable from an atomic checkpoint."""
