"""STAGE 3: weights → figures and pictures: on the val split, and, for a claim, on the test split."""
