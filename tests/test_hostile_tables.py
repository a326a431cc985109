"""The tables of hostile input as a whole: every reason has a row, and there are as many rows as promised."""

from __future__ import annotations

from types import SimpleNamespace

from s2s_mesh.errors import Reason

from . import (  # noqa: F401 - importing a table counts its rows
    hostile,
    test_asap_callers,
    test_claims,
    test_denied,
    test_evidence,
    test_foreign_token,
    test_forward_auth,
    test_hostile_jwks,
    test_inbound,
    test_jws,
    test_legacy,
    test_once,
    test_opa,
    test_policy_at_the_door,
    test_proof,
    test_rego,
    test_txn_token,
    test_user_token,
    test_users,
)

# Reasons whose rows come with the work they belong to: by name, and what that is about.
LATER: dict[str, str] = {}


def test_every_reason_is_given_by_some_hostile_row() -> None:
    """Each `Reason` stands in at least one table, or in the list of what comes later, and never in both."""
    without = {reason.name for reason in Reason} - {reason.name for reason in hostile.REASONS}
    assert without == set(LATER)


def test_there_are_as_many_hostile_rows_as_promised() -> None:
    """The rows of these tables alone are more than enough."""
    assert hostile.REASONS.total() >= hostile.LEAST


def test_only_rows_that_passed_are_counted() -> None:
    """Rows are counted by their calls: not by set-up, not when accepted, and whichever worker ran them."""
    reports = [
        SimpleNamespace(when=when, keywords={"test_x": 1, **({"hostile": 1} if marked else {})})
        for when in ("setup", "call", "teardown")
        for marked in (True, False)
    ]
    assert hostile.proved(reports) == 1
