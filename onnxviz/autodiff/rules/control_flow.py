"""If, Loop and Scan: the bodies are differentiated, the values of each turn kept."""
