"""What comes out of DVC's cache and remotes, checked before it is in the workspace; and DVC's configuration."""
