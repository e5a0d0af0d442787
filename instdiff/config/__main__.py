"""`python -m instdiff.config [experiment=smoke train.steps=100 ...]` compiles configs/ into params.yaml."""

import sys

from instdiff.config.compose import compile_params

try:
    compile_params(sys.argv[1:])
except ValueError as error:
    sys.exit(str(error))
