"""The topics of a device, and the ids that its MQTT client may go by.

A device owns what lies below `carehub/<its id>/`: it publishes to `readings` there and hears `receipts`. NATS writes a
topic as a subject: `/` becomes `.`, and a dot within a level becomes `//`.
"""

ROOT = "carehub"
STORED = f"$MQTT.msgs.{ROOT}"
"""Where the server's own MQTT stream keeps what was published with QoS 1 or 2."""


def subject(device_id: str, last: str) -> str:
    """The NATS subject of `carehub/<device_id>/<last>`."""
    return f"{ROOT}.{_level(device_id)}.{last}"


def sender(subject: str) -> tuple[str, str]:
    """The device that owns *subject* (stored or live), and the rest of its topic: `("cuff-1", "readings")`."""
    _, _, below = subject.partition(f"{ROOT}.")
    level, _, rest = below.partition(".")
    return level.replace("//", "."), rest.replace("//", "\0").replace(".", "/").replace("\0", ".")


def client_id(device_id: str) -> str:
    """The one id that the device's MQTT client may go by: a client that comes with the id of another is taken for it,
    and that other is hung up on. NATS takes no dot in it, and no device's id holds an underscore."""
    return device_id.replace(".", "_")


def _level(device_id: str) -> str:
    return device_id.replace(".", "//")
