"""The command line: ``tinygrad-stab …``.

Exit status: 0 done; 1 it could not be done (data missing or damaged); 2 the command was wrong;
130 interrupted. What goes wrong is said in one line on stderr.
"""

import sys

try:
    import rich  # noqa: F401  # asked for here, so that what is missing is said in one line
    import typer  # noqa: F401
except ImportError:  # the engine alone is installed
    sys.exit("tinygrad-stab: the command line needs: pip install 'tinygrad_stab[lab]'")

from . import see, course, prove, measure, reproduce  # noqa: F401, I001  # each adds its commands, in this order
from .app import main

__all__ = ["main"]
