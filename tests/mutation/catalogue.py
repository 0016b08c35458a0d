"""All mutants: for each rule at least one."""

from __future__ import annotations

from tests.mutation.database import DATABASE
from tests.mutation.fences import FENCES
from tests.mutation.ledger import LEDGER
from tests.mutation.mutant import Mutant
from tests.mutation.pair import PAIR
from tests.mutation.sending import SENDING

ALL: tuple[Mutant, ...] = (*SENDING, *FENCES, *DATABASE, *LEDGER, *PAIR)
