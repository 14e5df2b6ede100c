"""MQTT: readings of devices through a NATS server that keeps them until they are stored.

`broker` runs the NATS server, `tickets` signs what it asks to be signed, `door` says which device may connect and hangs
up when its key ends, `inflow` takes messages from the server's stream in order, `bridge` passes them through the same
flow as every other reading, and `service` is all of it together: `carehub broker`. See docs/mqtt.md and decision 23.
"""
