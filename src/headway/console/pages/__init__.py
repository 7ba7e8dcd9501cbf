"""One module per page; each has ``routes(view: Context) -> list[Route]`` and its templates of the same name."""
