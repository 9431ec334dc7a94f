"""`python -m clap_export` is `clap-export`."""

from clap_export.cli import main

raise SystemExit(main())
