"""Synthetic volumes inside training code: pool, sampler, balance, transform."""
