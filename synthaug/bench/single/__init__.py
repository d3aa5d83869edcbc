"""Commands beside studies: check, import, metrics, pool, reader-study, report."""
