"""TLS to an MQTT broker: whom to trust, and what to show."""

from __future__ import annotations

import ssl

from netring_bpf.errors import SinkError
from netring_bpf.sinks.mqtt_connection import TlsSocket
from netring_bpf.sinks.mqtt_options import Broker, MqttOptions

__all__ = ["tls_context"]


def tls_context(broker: Broker, options: MqttOptions) -> ssl.SSLContext | None:
    """Return how to speak TLS with the broker; None without TLS.

    Raises ``SinkError`` for certificates and keys that it cannot use.
    """
    if not broker.tls:
        for name in ("cafile", "certfile"):
            if getattr(options, name) is not None:
                raise SinkError(
                    f"{broker}: {name} is for TLS, which this URL does not ask for; use "
                    f"{broker.secure_scheme}://"
                )
        return None
    try:
        context = ssl.create_default_context(cafile=options.cafile)
    except OSError as error:
        raise SinkError(f"MQTT certificates in {options.cafile}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = TlsSocket
    if options.certfile is not None:
        try:
            # An empty password: OpenSSL would ask on the terminal for that of a key.
            context.load_cert_chain(options.certfile, options.keyfile, password=lambda: b"")
        except (OSError, ValueError) as error:
            raise SinkError(
                f"MQTT client certificate in {options.certfile}, key in "
                f"{options.keyfile or options.certfile}: {error}; both are PEM, the key not "
                "encrypted"
            ) from error
    return context
