"""`python -m saq` is the command line."""

import sys

from saq.cli import main

sys.exit(main())
