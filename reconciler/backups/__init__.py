"""The format on disk, written and read over the `Target` protocol alone. `docs/formats.md` is its page."""
