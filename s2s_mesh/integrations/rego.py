"""A policy written in Rego, decided in this process: no server (extra `rego`, the engine is rego-cpp)."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError, PolicyUnavailable
from ..identity import Principal
from ..policy import Decision, PolicyFacts, input_document
from ..strict_json import encode

_RULE = re.compile(r"data(?:\.[A-Za-z_][A-Za-z0-9_]*)+", re.ASCII)
_NAME = "verdict"


class Rego:
    """Decides by a rule of `.rego` files: `policy=Rego("wallets.rego", rule="data.wallets.allow")`.

    The rule must be true or false; undefined, and whatever is no boolean, denies. The input document is that
    of docs/policy.md, as for `OPA`. The files are read and compiled once; a decision takes about a
    millisecond and waits for nothing.

    What the engine does otherwise than OPA: it compares text as it is written, so write characters as
    themselves ("é", no escape); and functions that take text apart see quotes, backslashes and control
    characters escaped.

    Args:
        files: one file of Rego, or several.
        rule: its full name.

    Raises:
        ConfigError: a file cannot be read or compiled, or the extra is not installed.
    """

    def __init__(
        self, files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, rule: str
    ) -> None:
        if not _RULE.fullmatch(rule):
            raise ConfigError(f"Rego: rule is {rule!r}; expected a full name such as data.wallets.allow")
        self._rule = rule
        self._files = [files] if isinstance(files, (str, os.PathLike)) else list(files)
        if not self._files:
            raise ConfigError("Rego: no file is given")
        # the engine is one state machine: an input, then a query
        self._lock = threading.Lock()
        self._engine, self._bundle = self._compile()
        try:
            # what it does not know, such as a function, it says at the first evaluation
            self._evaluate({})
        except PolicyUnavailable:
            pass
        except ValueError:
            raise ConfigError(f"Rego: {self!r} cannot be evaluated; is every function in it known?") from None

    def __repr__(self) -> str:
        return f"Rego({[os.fspath(file) for file in self._files]!r}, rule={self._rule!r})"

    def decide(self, facts: PolicyFacts, principal: Principal) -> Decision:
        """See `Policy.decide`.

        Raises:
            PolicyUnavailable: the rule has two values for this call, which OPA calls a server error.
        """
        found = self._evaluate(input_document(facts, principal))
        if found is None:
            return Decision.deny(f"{self._rule} is undefined for this call")
        return Decision(found is True, f"{self._rule} is {'true' if found is True else 'not true'}")

    def _evaluate(self, document: dict[str, Any]) -> object:
        """Whether the rule is true; None if it is undefined."""
        with self._lock:
            # as text, because the engine takes strings of Python for such that are escaped already: "\\u0041"
            # would be "A", and a NUL the end
            self._engine.set_input_term(encode(document).decode())
            output = self._engine.query_bundle(self._bundle)
        if not output.results:
            raise PolicyUnavailable(f"{self._rule} cannot be evaluated: does it have two values?")
        return output.results[0].bindings.get(_NAME)

    def _compile(self) -> tuple[Any, Any]:
        try:
            from regopy import Interpreter, RegoError
            from regopy.rego_shared import LogLevel
        except ImportError as missing:
            raise ConfigError(f"Rego: {missing}; pip install 's2s-mesh[rego]'") from None
        engine = Interpreter()
        engine.log_level = LogLevel.NONE
        for file in self._files:
            try:
                engine.add_module(os.fspath(file), Path(file).read_text(encoding="utf-8"))
            except (OSError, UnicodeError) as failed:
                raise ConfigError(f"Rego: {file} cannot be read: {failed}") from None
            except RegoError as problem:
                raise ConfigError(f"Rego: {file} is no Rego: {problem}") from None
        try:
            # compared there, so that no text of a caller is in the output, which may leave it unescaped
            return engine, engine.build(f"{_NAME} := {self._rule} == true")
        except RegoError as problem:
            raise ConfigError(f"Rego: {self!r} cannot be compiled: {problem}") from None
