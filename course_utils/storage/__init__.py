"""What guards files: downloads, whole-file writes, weights from strangers, checkpoints. Nothing here is about diffusion."""
