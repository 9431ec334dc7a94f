"""msclap's checkpoints: their layout, how to read them safely, stand-ins for tests."""
