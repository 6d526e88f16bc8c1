"""STAGE 1: raw images → arrays."""
