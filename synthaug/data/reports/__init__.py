"""Reports written from findings and measurements."""
