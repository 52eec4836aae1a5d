"""Step by step from the unpruned model to a student: rank, search, cut, repair."""
