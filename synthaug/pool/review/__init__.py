"""What people and the audit look at in a pool."""
