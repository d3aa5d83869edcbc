"""Image distances with their floors and intervals, and classification metrics with patient intervals."""
