"""Telling people directly: the way where no automation of a Prefect server does it.

Under `everfit up` (or a runner) webhooks and Slack are called by the Prefect server, by automations
on the events that `tasks.events` emits; a variable on that server says whom they tell. Where they
are not on the server of this process, such as under a plain `everfit watch`, the process that
emits the event delivers it. Mail always goes this way, since Prefect's core has no block for SMTP.

A delivery is tried twice, within 5 s each; one that fails costs a warning and no flow. What was
delivered under the same key is not delivered again; a process that dies between both steps tells
twice rather than never.
"""

from __future__ import annotations

import logging
import os
import smtplib
import ssl
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from socket import getfqdn
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tasks import places, telling

if TYPE_CHECKING:
    from tasks.config import Config
    from tasks.config_notify import Notify, Receiver

log = logging.getLogger(__name__)

KIND = "told"  # of the notices
SMTP, SENDER = "EVERFIT_SMTP_URL", "EVERFIT_MAIL_FROM"
_SECONDS = 5.0
_TRIES = 2


class NotDelivered(Exception):
    """A receiver that did not take what it was told. The message holds no secret."""


def direct(
    config: Config,
    name: str,
    payload: Mapping[str, Any],
    key: str | None = None,
    *,
    handed: bool = True,
) -> list[str]:
    """Deliver an event to the config's receivers that nobody else tells; those that took it.

    `payload` has `message` and `link` already; `handed` says whether a Prefect server, and so its
    automations, has the event. Raises nothing.
    """
    word, done = telling.TOLD.get(name), []
    for entry in config.notify:
        if word not in entry.on or (handed and covered(config, entry)):
            continue
        try:
            if _once(config, entry.to, name, key, payload):
                done.append(str(entry.to))
        except Exception as fault:
            log.warning("%s was not told of %s: %s", entry.to, name, fault)
    return done


def covered(config: Config, entry: Notify) -> bool:
    """Whether automations of this process's Prefect server tell this receiver."""
    return entry.to.kind != "email" and channel(entry) in told_by_server(config)


def told_by_server(config: Config) -> Sequence[str]:
    """The channels of the model that this process's Prefect server tells; none without one."""
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    if not (get_current_settings().api.url or os.environ.get("PREFECT_API_URL")):
        return ()
    try:
        with get_client(sync_client=True) as client:
            found = client.read_variable_by_name(variable(config))
    except Exception as fault:  # a server that does not answer tells nobody
        log.warning("Prefect's server does not say whom it tells: %r", fault)
        return ()
    return found.value if found is not None and isinstance(found.value, list) else ()


def variable(config: Config) -> str:
    """The server's variable that names the channels."""
    return f"everfit_notify_{config.name}"


def channel(entry: Notify) -> str:
    """An entry as its automation knows it: whom, and on which words."""
    return f"{entry.to}: {', '.join(sorted(entry.on))}"


def deliver(receiver: Receiver, name: str, payload: Mapping[str, Any]) -> None:
    """Tell one receiver. Raises NotDelivered after the last try."""
    for attempt in range(_TRIES):
        try:
            _sent(receiver, name, payload)
            return
        except NotDelivered:
            if attempt == _TRIES - 1:
                raise
            time.sleep(0.5)


def _once(
    config: Config, receiver: Receiver, name: str, key: str | None, payload: Mapping[str, Any]
) -> bool:
    from monitoring import notices
    from monitoring.errors import StoreFault

    told = f"{name} {key} {receiver}"[:400]
    if key is not None:
        try:
            with places.telemetry(config) as store:
                if notices.known(store.database, config.name, KIND, told):
                    return False
        except StoreFault as fault:  # better twice than never
            log.warning("what was told before cannot be read: %s", fault)
    deliver(receiver, name, payload)
    if key is not None:
        now, body = datetime.now(UTC), {"message": payload.get("message", "")}
        with places.telemetry(config) as store:
            notices.add(store.database, config.name, KIND, told, now, body)
    return True


def _sent(receiver: Receiver, name: str, payload: Mapping[str, Any]) -> None:
    if receiver.kind == "email":
        _mail(receiver, name, payload)
    elif receiver.kind == "slack":
        _post(receiver.variable, {"text": slack_text(payload)})
    else:
        _post(receiver.variable, body(name, payload))


def body(name: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """What a webhook gets, whoever sends it."""
    told = {key: payload.get(key, "") for key in ("model", "message", "link")}
    return {"event": name, **told, "payload": dict(payload)}


def slack_text(payload: Mapping[str, Any]) -> str:
    """Slack's own writing: three characters are escaped, a link stands in angle brackets.

    >>> slack_text({"message": "a < b", "link": "http://host/runs"})
    'a &lt; b <http://host/runs|look>'
    """
    text = str(payload.get("message", ""))
    for plain, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(plain, escaped)
    where = payload.get("link")
    return f"{text} <{where}|look>" if where else text


def _post(variable: str, content: Mapping[str, Any]) -> None:
    import httpx

    url = os.environ.get(variable)
    if not url:
        raise NotDelivered(f"its URL is taken from {variable}, which is not set: set it here")
    if urlsplit(url).scheme not in ("http", "https"):
        raise NotDelivered(f"the URL in {variable} must begin with https:// or http://: correct it")
    try:
        answer = httpx.post(url, json=dict(content), timeout=_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as fault:
        raise NotDelivered(f"the URL in {variable}: {type(fault).__name__}") from None
    if answer.status_code >= 300:
        raise NotDelivered(f"the URL in {variable} answered {answer.status_code}")


def _mail(receiver: Receiver, name: str, payload: Mapping[str, Any]) -> None:
    """By the server in EVERFIT_SMTP_URL: smtp://user:password@host:587 (STARTTLS where the server
    has it, and always where there is a password) or smtps://...:465."""
    where = urlsplit(os.environ.get(SMTP, ""))
    if where.scheme not in ("smtp", "smtps") or not where.hostname:
        raise NotDelivered(f"mail goes by {SMTP}, smtp://user:password@host:587: set it here")
    message = EmailMessage()
    text = str(payload.get("message", name))
    message["Subject"] = f"[everfit] {text.splitlines()[0][:150]}"
    message["From"] = os.environ.get(SENDER) or f"everfit@{getfqdn()}"
    message["To"] = ", ".join(receiver.email)
    lines = [text, str(payload.get("link") or ""), f"Event {name}."]
    message.set_content("\n\n".join(line for line in lines if line) + "\n")
    context = ssl.create_default_context()
    try:
        with _connected(where.scheme, where.hostname, where.port, context) as server:
            if where.scheme == "smtp" and (server.has_extn("starttls") or where.username):
                server.starttls(context=context)
                server.ehlo()
            if where.username:
                server.login(unquote(where.username), unquote(where.password or ""))
            refused = server.send_message(message)
    except (smtplib.SMTPException, OSError) as fault:
        raise NotDelivered(f"the mail server in {SMTP}: {type(fault).__name__}") from None
    if refused:
        raise NotDelivered(f"the mail server in {SMTP} refused {', '.join(refused)}")


def _connected(scheme: str, host: str, port: int | None, context: ssl.SSLContext) -> smtplib.SMTP:
    if scheme == "smtps":
        return smtplib.SMTP_SSL(host, port or 465, timeout=_SECONDS, context=context)
    server = smtplib.SMTP(host, port or 25, timeout=_SECONDS)
    server.ehlo()
    return server
