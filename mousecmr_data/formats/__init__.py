"""Floor 2: readers and writers of other people's files, each to and from the cine model."""
