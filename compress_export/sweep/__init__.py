"""Many recipes as one: axes become runs, runs become stages, stages go where there is room."""
