"""How a flow's `config` arrives: as the config itself, or from a deployment as the file to read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from tasks.config import Config, load


class ConfigFile(BaseModel):
    """What a deployment's parameter `config` says; the file is read anew by each run."""

    model_config = ConfigDict(extra="forbid", title="config")

    file: Path = Field(description="The model's config, a YAML file.")
    runs: Path | None = Field(None, description="Everything the loop writes; none: as configured.")
    port: int | None = Field(
        None, ge=1, le=65535, description="Of the model's server; none: as configured."
    )

    def read(self) -> Config:
        """The config as it is now. Raises ConfigFault."""
        runs = None if self.runs is None else str(self.runs)
        return load(self.file, runs=runs, serving__port=self.port)


def parameter(file: Path, runs: Path | None = None, port: int | None = None) -> dict[str, Any]:
    """The value of a deployment's parameter `config`, in JSON's types."""
    given = ConfigFile(file=file.expanduser().resolve(), runs=runs, port=port)
    return given.model_dump(mode="json")


def _resolved(value: Any) -> Any:
    """
    >>> _resolved({"file": "nowhere.yaml"})
    Traceback (most recent call last):
    tasks.config.ConfigFault: no config file at ...
    """
    return ConfigFile.model_validate(value).read() if isinstance(value, dict) else value


Model = Annotated[
    Config, BeforeValidator(_resolved), WithJsonSchema(ConfigFile.model_json_schema())
]
