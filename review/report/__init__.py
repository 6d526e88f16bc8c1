"""The page of one run, of the working tree or of any revision: `python -m review report`."""
