"""What a generator's folder holds beside its weights: the record, how it may be asked, which reports it knows."""
