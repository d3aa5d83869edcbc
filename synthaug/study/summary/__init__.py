"""Cells gathered to arms, and arms to the summary."""
