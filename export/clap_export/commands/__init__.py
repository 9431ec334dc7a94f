"""The verbs of `clap-export` that only wire a part of the package to the command line."""
