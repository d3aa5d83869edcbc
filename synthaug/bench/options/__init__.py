"""What a command line may say: parsers, help, suggestions."""
