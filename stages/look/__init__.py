"""What a network makes of all images, and what their pictures are like, for `python -m review data`: no stage of
dvc.yaml, and nothing here is a result."""
