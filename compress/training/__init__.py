"""Training on transformers' Trainer: data order, resume, several processes."""
