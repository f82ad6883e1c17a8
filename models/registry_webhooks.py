"""Asking an MLflow server to tell a model's server when something changes in the registry."""

from __future__ import annotations

from typing import Any

from models.errors import RegistryFault

EVENTS = (  # what a server acts on: the champion changes hands, a challenger's stage moves
    "model_version_alias.created",
    "model_version_alias.deleted",
    "model_version_tag.set",
    "model_version_tag.deleted",
)


def subscribe(server: str, model: str, url: str, secret: str) -> tuple[str, str]:
    """Register, or renew, the webhook `everfit-MODEL` for `url` at the MLflow server `server`, and
    have it tried once. Returns its id and what came of the trial.

    Raises RegistryFault. The server needs MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY, or it forgets how
    to read the secret when it is started anew; it calls https and public addresses alone unless
    MLFLOW_WEBHOOK_ALLOWED_SCHEMES and MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS say otherwise.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    if not server.startswith(("http://", "https://")):
        raise RegistryFault(
            f"webhooks are sent by an MLflow server, not by a database, got {server!r}: give the "
            "server's address, such as http://127.0.0.1:5000"
        )
    client = MlflowClient(server, server)
    name = f"everfit-{model}"
    asked: dict[str, Any] = {"url": url, "events": list(EVENTS), "secret": secret}
    try:
        known = next((w for w in client.list_webhooks() if w.name == name), None)
        made = (
            client.create_webhook(name, description=f"wakes the server of {model}", **asked)
            if known is None
            else client.update_webhook(known.webhook_id, **asked)
        )
        tried = client.test_webhook(made.webhook_id)
    except MlflowException as fault:
        raise RegistryFault(f"{server} refused the webhook: {fault}: see its log") from fault
    if tried.success:
        return made.webhook_id, f"answered {tried.response_status}"
    said = tried.error_message or tried.response_body or "nothing"
    return made.webhook_id, f"failed, {tried.response_status or 'no answer'}: {said}"[:300]
