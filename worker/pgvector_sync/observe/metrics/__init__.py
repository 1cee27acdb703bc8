"""What does /metrics show? The metrics (`catalogue`), and how they are read (`collector`)."""
