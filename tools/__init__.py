"""For maintainers: programs that need a clone of the repository. Run them in its top folder, as `python -m tools.NAME`."""
