"""From saliency, prices and a budget to a plan: options, dynamic programming, trials, depth."""
