"""What the model library raises: the rule, the value received and the remedy, in one message."""

import re


class ModelError(Exception):
    """Base of all faults of the model library."""


class DataFault(ModelError):
    """A table that cannot be learnt from or scored: the column, the rule and the remedy."""


class SpaceFault(ModelError):
    """A search space, or parameters, that break the space's rules."""


class BundleFault(ModelError):
    """A bundle on disk that is incomplete, altered or of an unknown version."""


class RegistryFault(ModelError):
    """The registry refused, or its state is not the one that the caller expected."""


class Overtaken(RegistryFault):
    """The champion is not the one that the caller expected: another process was faster."""


class AliasLost(RegistryFault):
    """There was a champion, and its alias is gone: somebody deleted it, or its version."""


def hidden(text: str) -> str:
    """`text` without the passwords of the URLs in it.

    >>> hidden("'postgresql://me:s3cr@t@host/db?sslpassword=x' and more")
    "'postgresql://me:***@host/db?sslpassword=***' and more"
    """
    text = re.sub(r"(://[^:/?@\s]*):(?!\*\*\*@)[^\s]*@", r"\1:***@", text)
    return re.sub(r"(?i)(password=)(?!\*\*\*)[^&\s'\"]*", r"\1***", text)
