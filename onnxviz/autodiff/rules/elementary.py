"""Functions of one number: trigonometric, hyperbolic, reciprocal."""
