"""How good is a map: metrics over arrays and a function that says what the model answers."""
