"""Reader studies: real and synthetic volumes shuffled for radiologists to tell apart, and scores of the answers."""
