"""What is kept and what it costs: plans, workloads, cost models, latency tables."""
