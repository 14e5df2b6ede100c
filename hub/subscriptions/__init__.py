"""Subscriptions: who asked to be told of what, which versions that is about, and how they are told.

`register` holds the rules for writing one, `topics` what may be subscribed to, `horizon` up to where the record is
settled, `matching` finds the versions that a subscription is about, `events` numbers and shows them, `courier` sends
them where `targets` allows, `standing` reads how one stands, `websocket` speaks to whoever listens.
"""
