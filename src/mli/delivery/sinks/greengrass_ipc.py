"""A component's connection to its Greengrass nucleus: a local socket, spoken with awsiotsdk, on either engine.

Only a process that is a component imports that library, and only here.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mli.errors import RetryError, StopError

if TYPE_CHECKING:
    from awsiot.greengrasscoreipc.client import GreengrassCoreIPCClient

    from mli.config.settings import NucleusSettings

log = logging.getLogger(__name__)

CONNECT_S = 10.0
ANSWER_S = 10.0
ANSWERED_KEPT = 16

TroubleKind = Literal["away", "denied", "refused", "lost", "nothing"]


@dataclass(frozen=True, slots=True)
class NucleusTrouble:
    """Why the nucleus did not do what was asked.

    Attributes:
        kind: ``away``: it cannot now (no connection to AWS IoT Core, its queue is full); ``denied``: the component's
            accessControl does not list it; ``refused``: it never will; ``lost``: the connection ended before an
            answer; ``nothing``: there is no such key, or no such operation.
        text: its words; some engines send none.
    """

    kind: TroubleKind
    text: str


class IdentityRefused(RetryError):
    """The nucleus is there, and does not know this component."""


Done = Callable[[NucleusTrouble | None], None]


class NucleusConnection:
    """One connection, until it is lost or closed. What is heard of it comes from the library's own thread, which must
    not be held up.

    Args:
        on_lost: called once, when the connection ends otherwise than by ``close``.

    Raises:
        IdentityRefused: see there.
        RetryError: the nucleus cannot be reached.
        StopError: awsiotsdk is not installed.
    """

    def __init__(self, settings: NucleusSettings, on_lost: Callable[[str], None]) -> None:
        self._on_lost = on_lost
        self._closing = threading.Event()
        self._answered: deque[Any] = deque()
        try:
            self._client = self._connect(settings)
        except ImportError as error:
            raise StopError(
                "A component of Greengrass needs a library that is not installed here.",
                got=str(error),
                remedy="install it: pip install 'mli[greengrass]'",
            ) from error

    def close(self) -> None:
        """End it; ``on_lost`` is not called."""
        self._closing.set()
        self._client.close()

    def publish(
        self, topic: str, payload: bytes, qos: int, done: Done, *, retain: bool, pairs: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Ask for a publish to AWS IoT Core; never blocks.

        Args:
            pairs: user properties. Nucleus lite takes them, and ``retain``, and does not pass them on.
            done: hears once what became of it.
        """
        from awsiot.greengrasscoreipc.model import PublishToIoTCoreRequest, UserProperty

        properties = [UserProperty(key=key, value=value) for key, value in pairs]
        request = PublishToIoTCoreRequest(
            topic_name=topic, qos=str(qos), payload=payload, retain=retain, user_properties=properties or None
        )
        self._ask(self._client.new_publish_to_iot_core, request, lambda _, trouble: done(trouble))

    def configuration(self, component: str | None = None) -> dict[str, Any]:
        """The whole configuration of a component; this one's own where none is named.

        Raises:
            RetryError: it could not be read.
        """
        from awsiot.greengrasscoreipc.model import GetConfigurationRequest

        request = GetConfigurationRequest(component_name=component, key_path=[])
        answer, trouble = self._wait_for(self._client.new_get_configuration, request)
        if trouble is not None and trouble.kind == "nothing":
            return {}
        if trouble is not None or not isinstance(answer.value, dict):
            raise RetryError(
                "The component's configuration could not be read.",
                got=trouble.text if trouble else type(answer.value).__name__,
                remedy="an engine that is nucleus lite gives out at most 10,000 bytes: keep the deployment short",
            )
        return dict(answer.value)

    def hear_updates(self, heard: Callable[[], None]) -> None:
        """Be told whenever the component's configuration changes, often several times for one change.

        Raises:
            RetryError: the nucleus did not take the subscription.
        """
        from awsiot.greengrasscoreipc.client import SubscribeToConfigurationUpdateStreamHandler
        from awsiot.greengrasscoreipc.model import SubscribeToConfigurationUpdateRequest

        class Handler(SubscribeToConfigurationUpdateStreamHandler):  # type: ignore[misc]
            def on_stream_event(self, _event: Any) -> None:
                heard()

        def operation() -> Any:
            return self._client.new_subscribe_to_configuration_update(Handler())

        _, trouble = self._wait_for(operation, SubscribeToConfigurationUpdateRequest(key_path=[]), stays=True)
        if trouble is not None:
            raise RetryError("The nucleus does not tell changes of the configuration.", got=trouble.text)

    def hear_proposals(self, heard: Callable[[Mapping[str, Any], str], None]) -> bool:
        """Be asked whether a new configuration is a good one, before it is there; False where this engine never asks.

        Args:
            heard: the whole new configuration, and the deployment's id, for ``report``.
        """
        from awsiot.greengrasscoreipc.client import SubscribeToValidateConfigurationUpdatesStreamHandler
        from awsiot.greengrasscoreipc.model import SubscribeToValidateConfigurationUpdatesRequest

        class Handler(SubscribeToValidateConfigurationUpdatesStreamHandler):  # type: ignore[misc]
            def on_stream_event(self, event: Any) -> None:
                proposal = event.validate_configuration_update_event
                if proposal is not None:
                    heard(proposal.configuration or {}, proposal.deployment_id or "")

        def operation() -> Any:
            return self._client.new_subscribe_to_validate_configuration_updates(Handler())

        _, trouble = self._wait_for(operation, SubscribeToValidateConfigurationUpdatesRequest(), stays=True)
        return trouble is None

    def report(self, deployment_id: str, why_not: str | None) -> NucleusTrouble | None:
        """Answer what ``hear_proposals`` asked.

        Args:
            why_not: None accepts it.
        """
        from awsiot.greengrasscoreipc.model import (
            ConfigurationValidityReport,
            ConfigurationValidityStatus,
            SendConfigurationValidityReportRequest,
        )

        status = ConfigurationValidityStatus.ACCEPTED if why_not is None else ConfigurationValidityStatus.REJECTED
        verdict = ConfigurationValidityReport(status=status, deployment_id=deployment_id, message=why_not)
        request = SendConfigurationValidityReportRequest(configuration_validity_report=verdict)
        return self._wait_for(self._client.new_send_configuration_validity_report, request)[1]

    # --- the library ---------------------------------------------------------------------------------------

    def _connect(self, settings: NucleusSettings) -> GreengrassCoreIPCClient:
        from awscrt.exceptions import AwsCrtError
        from awscrt.io import ClientBootstrap, DefaultHostResolver, EventLoopGroup, SocketDomain, SocketOptions
        from awsiot.eventstreamrpc import AccessDeniedError, Connection, LifecycleHandler, MessageAmendment
        from awsiot.greengrasscoreipc.client import GreengrassCoreIPCClient

        tell = self._lost

        class Handler(LifecycleHandler):  # type: ignore[misc]
            def on_disconnect(self, reason: Exception | None) -> None:
                tell(reason)

        logging.getLogger("awsiot").setLevel(logging.CRITICAL)  # what it says is said by us, and once
        group = EventLoopGroup(num_threads=1)
        options = SocketOptions()
        options.domain = SocketDomain.Local
        connection = Connection(
            host_name=settings.socket_path,
            port=0,
            bootstrap=ClientBootstrap(group, DefaultHostResolver(group)),
            socket_options=options,
            connect_message_amender=MessageAmendment.create_static_authtoken_amender(settings.token),
        )
        try:
            connection.connect(Handler()).result(CONNECT_S)
        except (AwsCrtError, AccessDeniedError) as error:  # connected, and closed instead of being welcomed
            connection.close()
            raise IdentityRefused(
                "The Greengrass nucleus does not know this component.",
                where=settings.socket_path,
                got=str(error),
                remedy="SVCUID in the environment must be what the nucleus has set for it; start the component anew",
            ) from error
        except (RuntimeError, TimeoutError) as error:
            connection.close()
            raise RetryError(
                "The Greengrass nucleus cannot be reached.",
                where=settings.socket_path,
                got=str(error) or f"no answer within {CONNECT_S:g} s",
                remedy="is it running?",
            ) from error
        return GreengrassCoreIPCClient(connection)

    def _lost(self, reason: Exception | None) -> None:
        if not self._closing.is_set():
            self._on_lost("the nucleus closed the connection" + (f" ({reason})" if reason else ""))

    def _ask(
        self,
        operation: Callable[[], Any],
        request: Any,
        done: Callable[[Any, NucleusTrouble | None], None],
        *,
        stays: bool = False,
    ) -> None:
        """Args: stays: more will come on this stream."""
        self._end_answered()

        def answered(future: Future[Any]) -> None:
            error = future.exception()
            if not stays:
                self._answered.append(asked)
            done(None if error else future.result(), None if error is None else _trouble(error))

        from awscrt.exceptions import AwsCrtError

        try:
            asked = operation()
            asked.activate(request)
        except (RuntimeError, AwsCrtError) as error:  # the connection has just ended
            done(None, NucleusTrouble("lost", f"{type(error).__name__}: {error}"))
            return
        asked.get_response().add_done_callback(answered)

    def _end_answered(self) -> None:
        """Nucleus lite leaves it to the client to end a stream on which nothing more comes; one that is not ended is
        kept for ever, some 6 KB each. Not the newest ones: those that classic ends may be doing so right now."""
        while len(self._answered) > ANSWERED_KEPT:
            with contextlib.suppress(IndexError):  # another thread was faster
                self._answered.popleft().close()

    def _wait_for(
        self, operation: Callable[[], Any], request: Any, *, stays: bool = False
    ) -> tuple[Any, NucleusTrouble | None]:
        answers: list[tuple[Any, NucleusTrouble | None]] = []
        came = threading.Event()

        def done(answer: Any, trouble: NucleusTrouble | None) -> None:
            answers.append((answer, trouble))
            came.set()

        self._ask(operation, request, done, stays=stays)
        if not came.wait(ANSWER_S):
            return None, NucleusTrouble("lost", f"no answer within {ANSWER_S:g} s")
        return answers[0]


def _trouble(error: BaseException) -> NucleusTrouble:
    from awsiot.greengrasscoreipc import model

    text = getattr(error, "message", None) or ""
    if isinstance(error, model.ServiceError):
        return NucleusTrouble("away", text or "it could not do it, and does not say why")
    if isinstance(error, model.UnauthorizedError):
        return NucleusTrouble("denied", text)
    if isinstance(error, model.InvalidArgumentsError):
        return NucleusTrouble("refused", text or "an argument that it does not take")
    if isinstance(error, model.ResourceNotFoundError):
        return NucleusTrouble("nothing", text or "there is no such thing")
    return NucleusTrouble("lost", f"{type(error).__name__}: {error}")


def access_control(topic: str) -> str:
    """What the component's configuration must hold, so that its nucleus publishes to a topic for it."""
    return (
        '"accessControl": {"aws.greengrass.ipc.mqttproxy": {"mli:more": {"operations": '
        f'["aws.greengrass#PublishToIoTCore"], "resources": ["{topic}"]}}}}}}'
    )
