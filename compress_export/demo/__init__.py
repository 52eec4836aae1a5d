"""The demo: a built-in synthetic task, and a teacher fine-tuned on it."""
