"""From a model to a smaller one, step by step: score, plan, cut, repair."""
