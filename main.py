"""The official command line of MedVisionLlama: `python main.py --help`."""

import sys

from orchestrator.official import main

if __name__ == "__main__":
    sys.exit(main())
