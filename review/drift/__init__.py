"""`python -m review drift`: whether what comes to a service is still what its model was measured on."""
