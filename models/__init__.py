"""The bundles that ship; read through `clap_engine.bundle`."""
