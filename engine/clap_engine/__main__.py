"""`python -m clap_engine`: the command line without the installed script.

In:  the process's arguments.
Out: an exit code.
Knows nothing else.
"""

from __future__ import annotations

import sys

from clap_engine.cli import main

sys.exit(main())
