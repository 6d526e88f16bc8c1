"""`python -m review data`: what to mend in the images and labels, and what to collect."""
