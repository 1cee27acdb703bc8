"""The verbs, independent of each other: capture, drain, batch (claim, read, embed, write), fill."""
