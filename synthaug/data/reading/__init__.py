"""Tables and image files, read to their end and named where they cannot be used."""
