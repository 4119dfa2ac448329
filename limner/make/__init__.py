"""`limner make`: from a folder of pictures to a model that draws, and a report."""
