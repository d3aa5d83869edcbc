"""What a study will take and what it has taken."""
