"""`python -m tests.chaos`: random faults for so many minutes, and a report."""

import sys

from tests.chaos.run import main

sys.exit(main())
