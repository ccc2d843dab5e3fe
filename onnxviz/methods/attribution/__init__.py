"""Why did the model answer so: one file per family of methods, each a function of one `Question`."""
