"""Output folders, locks and downloads: what is on disk, whatever is in it."""
