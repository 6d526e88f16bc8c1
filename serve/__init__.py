"""The exported model as a service over HTTP: `python -m serve`. Packages: requirements-serve.lock."""
