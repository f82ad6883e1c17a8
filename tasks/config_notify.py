"""The section `notify`: what is told to whom. Addresses that are secrets are named, never written.

A webhook's or Slack's URL lets whoever has it write there, so the config names the environment
variable that holds it. Mail goes by the server in EVERFIT_SMTP_URL.
"""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Word = Literal[
    "decision",
    "promoted",
    "refused",
    "rolled back",
    "approval needed",
    "approved",
    "rejected",
    "no labels",
    "watch late",
    "disk low",
    "alias moved",
]
WORDS: tuple[str, ...] = get_args(Word)

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
_ADDRESS = re.compile(r"[^@\s<>,;\"]+@[^@\s<>,;\"]+")


class Receiver(BaseModel):
    """One of the three."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    webhook: str | None = None  # the environment variable that holds its URL
    slack: str | None = None  # likewise, of a Slack incoming webhook
    email: list[str] = []

    @field_validator("email", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("email")
    @classmethod
    def _addresses(cls, value: list[str]) -> list[str]:
        for address in value:
            if not _ADDRESS.fullmatch(address):
                raise ValueError("an address is name@host: write it as ops@example.com")
        return value

    @field_validator("webhook", "slack")
    @classmethod
    def _names_a_variable(cls, value: str | None) -> str | None:
        if value is not None and not _VARIABLE.fullmatch(value):
            # the value is not shown: it may be the secret itself
            raise ValueError(
                "the URL is a secret and the config names the environment variable that holds it, "
                "got something else: write EVERFIT_SLACK_URL and set that where everfit runs"
            )
        return value

    @model_validator(mode="after")
    def _one_of_three(self) -> Receiver:
        given = [name for name in ("webhook", "slack", "email") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"a receiver is one of webhook, slack and email, got "
                f"{' and '.join(given) or 'none'}: write one, and further ones as own entries"
            )
        return self

    @property
    def kind(self) -> Literal["webhook", "slack", "email"]:
        return "webhook" if self.webhook else "slack" if self.slack else "email"

    @property
    def variable(self) -> str:
        """The environment variable that this receiver needs."""
        return self.webhook or self.slack or "EVERFIT_SMTP_URL"

    def __str__(self) -> str:
        return f"{self.kind} {', '.join(self.email) or self.variable}"


class Notify(BaseModel):
    """What is told to one receiver."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    on: list[Word] = Field(min_length=1)
    to: Receiver

    @model_validator(mode="before")
    @classmethod
    def _on_is_a_word(cls, value: Any) -> Any:
        """YAML 1.1 reads a bare `on` as true."""
        if isinstance(value, dict) and True in value and "on" not in value:
            return {("on" if key is True else key): inner for key, inner in value.items()}
        return value
