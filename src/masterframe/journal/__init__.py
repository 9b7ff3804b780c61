"""What has been done, and by whom: tokens, finished bands and products, the lock of a folder."""

from masterframe.journal.bands import BandJournal, Claim, read_claim
from masterframe.journal.folders import (
    STATE_FOLDER,
    is_locked,
    lock,
    make_folder,
    place_of_part,
    state_folder,
    sweep_parts,
)
from masterframe.journal.ledger import Ledger, Record
from masterframe.journal.tokens import product_token

__all__ = [
    "STATE_FOLDER",
    "BandJournal",
    "Claim",
    "Ledger",
    "Record",
    "is_locked",
    "lock",
    "make_folder",
    "place_of_part",
    "product_token",
    "read_claim",
    "state_folder",
    "sweep_parts",
]
