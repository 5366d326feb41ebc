from tile_databases import databases, folder  # noqa: F401
