"""The fenced blocks of the README and the docs, for the tests that execute them."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Fence(NamedTuple):
    """One fenced block: its language, which may be empty, and its text."""

    language: str
    text: str


def fences(path: str) -> list[Fence]:
    """All fenced blocks of a page, in order."""
    text = (ROOT / path).read_text(encoding="utf-8")
    found = re.findall(r"^( *)```(\S*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [Fence(language, dedent(block)) for _, language, block in found]


def snippets(path: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [fence.text for fence in fences(path) if fence.language == language]


def commands(path: str) -> list[str]:
    """What is typed in the console blocks, a line each."""
    lines = [line for text in snippets(path, "console") for line in text.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
