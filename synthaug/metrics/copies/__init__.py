"""Is a synthetic volume a copy of a training volume, and do synthetic volumes differ from each other?"""
