"""The corpus that clap-mini is trained on: rendered sounds with captions from exact attributes."""
