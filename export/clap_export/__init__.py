"""Build time: corpus, training, export, quantization and packing of CLAP bundles (needs torch)."""
