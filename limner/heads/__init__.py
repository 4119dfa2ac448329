"""How one step's content is drawn from the network's output, and the losses that teach it."""
