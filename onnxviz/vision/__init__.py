"""From a picture to the model's input: the input, the preprocessing, and the classes' names."""
