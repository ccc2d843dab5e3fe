"""Pictures of results: numbers in, uint8 RGB arrays out; the only room that knows matplotlib."""
