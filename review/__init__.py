"""What people and CI run on the results: `python -m review <verb>`. Reads what the stages wrote; asks Git and DVC."""
