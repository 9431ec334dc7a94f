"""The thin HTTP face of one engine and one collection; it needs the extra `serve`."""
