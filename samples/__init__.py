"""The clips that `clap-engine demo` indexes; listed in samples.csv."""
