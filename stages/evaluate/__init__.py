"""STAGE 3: weights → figures and pictures, on the test split."""
