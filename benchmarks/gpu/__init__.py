"""`python -m benchmarks.gpu`: what a GPU is good for here. __main__ says what it measures, parts how."""
