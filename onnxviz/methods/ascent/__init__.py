"""Gradient ascent in the input: parameters, picture, transforms, model, objective and step as one graph."""
