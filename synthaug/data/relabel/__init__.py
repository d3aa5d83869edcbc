"""Reports and classes that follow the moves of an augmentation."""
