"""What the pipeline costs, as ratios within one interleaved run: `python -m benchmarks.<name>` from the root."""
