"""Build software from recipes into artifacts that run on any Linux."""
